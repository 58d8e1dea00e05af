//! Pictures of where a decoder looks.

use crate::workshop::{Workshop, names};

#[test]
fn attention_is_drawn_for_decoders_that_have_it() {
    let shop = Workshop::new();
    let class = names(&shop.path("data"))[0].clone();
    let photo = format!("@data/{class}/test/good/000.png");
    for decoder in ["softmax", "linear"] {
        shop.succeed(shop.train(decoder, &format!("--iterations 2 --decoder {decoder}")));
        let draw = format!("attention @{decoder} {photo} --out @{decoder}-out");
        let text = shop.succeed(shop.command(&draw));
        assert_eq!(text.lines().count(), 1 + 8 + 1, "{text}");
        for line in text.lines().skip(1).take(8) {
            let cells: Vec<f64> = line.split_whitespace().map(|cell| cell.parse().unwrap()).collect();
            // 4 patches a side: entropy is a share, and the mean distance of equal weights less than two patches.
            assert!(cells[1] > 0.0 && cells[1] <= 1.0 && cells[2] > 0.0 && cells[2] < 2.5, "{line}");
        }
        assert_eq!(
            names(&shop.path(&format!("{decoder}-out"))),
            [1, 2, 3, 4, 5, 6, 7, 8].map(|i| format!("block-{i}.png"))
        );
        let picture = image::open(shop.path(&format!("{decoder}-out/block-1.png"))).unwrap().to_rgb8();
        assert_eq!((picture.width(), picture.height()), (64, 64));
        // The centre of 64 of 72 pixels is looked at, in four patches a side: the one below and right of the centre asks.
        let framed = |x, y| picture.get_pixel(x, y).0 == [0, 255, 255];
        assert!(framed(32, 32) && framed(45, 32) && framed(32, 45) && !framed(38, 38) && !framed(20, 20));
        shop.succeed(shop.command(&format!("{draw} --query 10,10 --query 50,20 --heads")));
        let all = names(&shop.path(&format!("{decoder}-out")));
        assert!(all.len() == 8 + 2 * 8 * 2 && all.contains(&"query-2-block-8-head-1.png".to_owned()), "{all:?}");
        let error = shop.refuse(shop.command(&format!("{draw} --query 1,30")));
        assert!(error.contains("--query 1,30 lies outside the part of the photo that the model sees"), "{error}");
    }
    shop.succeed(shop.train("conv", "--iterations 2 --decoder conv3"));
    let error = shop.refuse(shop.command(&format!("attention @conv {photo} --out @conv-out")));
    assert!(error.contains("the decoder of model conv has convolutions"), "{error}");
    let error = shop.refuse(shop.command("attention @linear @none.png --out @linear-out"));
    assert!(error.contains("photo none.png cannot be read"), "{error}");
    let error = shop.refuse(shop.command("attention @conv @none.png --out @none-out"));
    assert!(error.contains("photo none.png cannot be read") && !shop.path("none-out").exists(), "{error}");
}
