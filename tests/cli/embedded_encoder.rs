//! Training on a fresh machine: no `--backbone`, no network.

use crate::workshop::Workshop;

#[test]
fn the_embedded_encoder_is_taken_and_named_if_no_backbone_is_given() {
    let shop = Workshop::new();
    let train = "train @data --out @model --iterations 2 --batch 4 --holdout 0.2";
    let printed = shop.succeed(shop.command(train));
    let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with("backbone: ")).collect();
    let [line] = lines[..] else { panic!("{printed}") };
    assert!(line.starts_with("backbone: the embedded encoder (3 M parameters, 12 blocks); "), "{line}");
    assert!(line.contains("dinomaly backbone fetch dinov2-reg-small"), "{line}");
    // The size that it was made for: the usual one does not divide into its patches.
    let inspected = shop.succeed(shop.command("inspect @model"));
    assert!(inspected.contains("geometry  whole photos, resized to 224 × 224"), "{inspected}");
    assert!(inspected.contains("patch 16"), "{inspected}");

    // Its bytes are part of the recipe, as a file's are.
    let again = shop.succeed(shop.command(train));
    assert!(again.contains("is trained already"), "{again}");
    let other = shop.refuse(shop.command(&format!("{train} --backbone @encoder.safetensors --crop 224")));
    assert!(other.contains("was trained with other settings"), "{other}");

    shop.succeed(shop.command("train @data --out @small --resize 72 --crop 64 --iterations 1 --batch 4"));
    let inspected = shop.succeed(shop.command("inspect @small"));
    assert!(inspected.contains("resized to 72 × 72, centre 64 × 64"), "{inspected}");
    let error = shop.refuse(shop.command("train @data --out @odd --resize 448 --crop 392"));
    assert!(error.contains("--resize 448 --crop 392"), "{error}");
    // A preset's size is nothing that was typed.
    let error = shop.refuse(shop.command("train @data --out @odd --preset mvtec"));
    assert!(error.contains("--preset mvtec is for the paper's encoders: name one by --backbone"), "{error}");
}
