//! Tests of decoding.

use image::{ImageBuffer, Pixel, PixelWithColorType, Rgb, Rgba};

use super::*;

const FORMATS: [ImageFormat; 5] =
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP];

fn encode<P>(image: &ImageBuffer<P, Vec<P::Subpixel>>, format: ImageFormat) -> Vec<u8>
where
    P: Pixel + PixelWithColorType,
    [P::Subpixel]: image::EncodableLayout,
{
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// Gradient of red to the right and green downwards.
fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 40]))
}

fn refusal(bytes: &[u8]) -> String {
    Photo::decode("part 7.jpg", bytes).expect_err("a refusal").to_string()
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    assert_eq!(refusal(b""), "photo part 7.jpg: the file is empty");
    let unknown = "photo part 7.jpg: not a PNG, JPEG, BMP, TIFF or WebP picture";
    assert_eq!(refusal(b"Dear diary, today I photographed a screw."), unknown);
    assert_eq!(refusal(&[0; 1000]), unknown);
    assert_eq!(
        refusal(b"GIF89a\x01\0\x01\0"),
        "photo part 7.jpg: Gif files are not supported: convert the photo to PNG or JPEG"
    );
    assert!(refusal(b"\x89PNG\r\n\x1a\n\0\0\0\x0djunk and more junk and more").contains("Png file is damaged"));
}

#[test]
fn the_format_is_told_from_the_content() {
    for format in FORMATS {
        let photo = Photo::decode("misleading.txt", &encode(&gradient(9, 5), format)).unwrap();
        assert_eq!((photo.width, photo.height), (9, 5), "{format:?}");
        assert_eq!(photo.rgb.len(), 9 * 5 * 3, "{format:?}");
    }
}

/// A file cut anywhere is refused, or read in full if only data after the picture is missing.
#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for format in FORMATS {
        let whole = encode(&gradient(33, 21), format);
        let photo = Photo::decode("whole", &whole).unwrap();
        let mut read = Vec::new();
        for length in 1..whole.len() {
            match Photo::decode("cut", &whole[..length]) {
                Ok(cut) => {
                    assert_eq!(cut, photo, "{format:?} cut to {length} of {} bytes", whole.len());
                    read.push(length);
                }
                Err(error) => assert!(error.to_string().starts_with("photo cut: "), "{error}"),
            }
        }
        let trailer = if format == ImageFormat::Png { 16 } else { 0 };
        assert!(read.iter().all(|length| whole.len() - length <= trailer), "{format:?}: read although cut to {read:?}");
        let half = refusal(&whole[..whole.len() / 2]);
        assert_eq!(half, format!("photo part 7.jpg: {}", cut_off(format)));
    }
}

#[test]
fn no_damage_makes_the_decoder_panic() {
    for format in FORMATS {
        let whole = encode(&gradient(24, 16), format);
        for at in 0..whole.len() {
            for bits in [0x01, 0x80, 0xFF] {
                let mut damaged = whole.clone();
                damaged[at] ^= bits;
                // Some damage only changes colours; the result must be a picture or an error, never a panic.
                if let Ok(photo) = Photo::decode("damaged", &damaged) {
                    assert_eq!(photo.rgb.len(), 3 * photo.width as usize * photo.height as usize);
                }
            }
        }
    }
}

#[test]
fn one_pixel_is_a_photo() {
    for format in FORMATS {
        let photo = Photo::decode("1x1", &encode(&RgbImage::from_pixel(1, 1, Rgb([90, 90, 90])), format)).unwrap();
        assert_eq!(photo, Photo { width: 1, height: 1, rgb: vec![90; 3] }, "{format:?}");
    }
}

#[test]
fn a_huge_photo_is_refused_by_its_header() {
    for format in FORMATS {
        let small = encode(&gradient(8, 8), format);
        let (width, height) = if format == ImageFormat::WebP { (16383, 16383) } else { (20_000, 20_000) };
        let error = refusal(&with_size(small, format, width, height));
        let megapixels = (u64::from(width) * u64::from(height)).div_ceil(1_000_000);
        let expected = format!("{width}x{height} pixels are {megapixels} megapixels, the limit is 120");
        assert!(error.contains(&expected), "{format:?}: {error}");
    }
}

#[test]
fn a_long_strip_is_refused_by_its_header() {
    let small = encode(&gradient(8, 8), ImageFormat::Png);
    let error = refusal(&with_size(small, ImageFormat::Png, 1, 1_000_000));
    assert!(error.contains("1x1000000 pixels: the limit is 65535 along a side"), "{error}");
}

/// The file with another size in its header.
fn with_size(mut file: Vec<u8>, format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let find = |file: &[u8], bytes: &[u8]| file.windows(bytes.len()).position(|w| w == bytes).unwrap();
    match format {
        ImageFormat::Png => {
            file[16..20].copy_from_slice(&width.to_be_bytes());
            file[20..24].copy_from_slice(&height.to_be_bytes());
            let crc = crc32(&file[12..29]);
            file[29..33].copy_from_slice(&crc.to_be_bytes());
        }
        ImageFormat::Jpeg => {
            let frame = find(&file, &[0xFF, 0xC0]);
            file[frame + 5..frame + 7].copy_from_slice(&(height as u16).to_be_bytes());
            file[frame + 7..frame + 9].copy_from_slice(&(width as u16).to_be_bytes());
        }
        ImageFormat::Bmp => {
            file[18..22].copy_from_slice(&width.to_le_bytes());
            file[22..26].copy_from_slice(&height.to_le_bytes());
        }
        ImageFormat::Tiff => {
            // Tags 256 and 257, each one LONG.
            for (tag, side) in [(256u16, width), (257, height)] {
                let [low, high] = tag.to_le_bytes();
                let entry = find(&file, &[low, high, 4, 0, 1, 0, 0, 0]);
                file[entry + 8..entry + 12].copy_from_slice(&side.to_le_bytes());
            }
        }
        ImageFormat::WebP => {
            // Two sides of 14 bits, each less 1.
            let bits = (width - 1) | (height - 1) << 14;
            let header = find(&file, b"VP8L") + 9;
            file[header..header + 4].copy_from_slice(&bits.to_le_bytes());
        }
        other => panic!("{other:?}"),
    }
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

#[test]
fn grey_alpha_and_16_bits_become_what_pillow_makes_of_them() {
    let rgb = |bytes: Vec<u8>| Photo::decode("photo", &bytes).unwrap().rgb;
    let grey = image::GrayImage::from_raw(3, 1, vec![0, 90, 255]).unwrap();
    assert_eq!(rgb(encode(&grey, ImageFormat::Png)), [0, 0, 0, 90, 90, 90, 255, 255, 255]);
    let clear = image::RgbaImage::from_pixel(1, 1, Rgba([10, 20, 30, 0]));
    assert_eq!(rgb(encode(&clear, ImageFormat::Png)), [10, 20, 30], "alpha is dropped, not blended");
    let grey16 = ImageBuffer::<image::Luma<u16>, _>::from_raw(3, 1, vec![7u16, 255, 40_000]).unwrap();
    let file = encode(&grey16, ImageFormat::Png);
    assert_eq!(rgb(file.clone()), [7, 7, 7, 255, 255, 255, 255, 255, 255], "clipped");
    let window = Window::new(7, 40_000).unwrap();
    let windowed = Photo::decode_in("photo", &file, Some(window)).unwrap().rgb;
    assert_eq!(windowed, [0, 0, 0, 2, 2, 2, 255, 255, 255], "in a window");
    assert_eq!(super::grey16("photo", &file).unwrap().unwrap(), [7, 255, 40_000]);
    assert_eq!(super::grey16("photo", &encode(&grey, ImageFormat::Png)).unwrap(), None);
    let rgb16 = ImageBuffer::<Rgb<u16>, _>::from_raw(1, 1, vec![0x12FFu16, 0x8000, 0xFFFF]).unwrap();
    assert_eq!(rgb(encode(&rgb16, ImageFormat::Png)), [0x12, 0x80, 0xFF], "high byte");
}

#[test]
fn a_photo_lying_on_its_side_is_turned_upright() {
    let jpeg = encode(&gradient(32, 16), ImageFormat::Jpeg);
    let lying = Photo::decode("lying", &jpeg).unwrap();
    // EXIF with the one tag 0x0112, orientation 6: turn clockwise by 90 degrees.
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut turned = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, exif.len() as u8 + 2];
    turned.extend(exif);
    turned.extend(&jpeg[2..]);
    let upright = Photo::decode("upright", &turned).unwrap();
    assert_eq!((upright.width, upright.height), (16, 32));
    for (x, y) in [(0, 0), (15, 0), (3, 29)] {
        let from = 3 * ((15 - x) * 32 + y);
        let to = 3 * (y * 16 + x);
        assert_eq!(upright.rgb[to..to + 3], lying.rgb[from..from + 3], "at {x}, {y}");
    }
}

#[test]
fn a_preview_inside_does_not_pass_for_the_end() {
    let (preview, jpeg) = (encode(&gradient(8, 8), ImageFormat::Jpeg), encode(&gradient(32, 16), ImageFormat::Jpeg));
    let mut file = vec![0xFF, 0xD8, 0xFF, 0xE2];
    file.extend((preview.len() as u16 + 2).to_be_bytes());
    file.extend(&preview);
    file.extend(&jpeg[2..]);
    assert!(Photo::decode("with preview", &file).is_ok());
    assert!(refusal(&file[..file.len() - 100]).contains("cut off"));
}
