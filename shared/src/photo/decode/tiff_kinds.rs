//! Kinds of TIFF that are not read, by their names.

use std::io::Cursor;

use tiff::decoder::Decoder;
use tiff::tags::{CompressionMethod, PhotometricInterpretation, SampleFormat, Tag};

/// Why a TIFF that the decoder refuses is not read, and what to do; `None` if that is not known here.
pub(super) fn refusal(bytes: &[u8]) -> Option<String> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).ok()?;
    // Of a tag with a value for each channel, the first.
    let mut value = |tag, absent: u16| {
        let values = decoder.find_tag_unsigned_vec(tag).ok().flatten();
        values.and_then(|values| values.first().copied()).unwrap_or(absent)
    };
    let compression = CompressionMethod::from_u16_exhaustive(value(Tag::Compression, 1));
    let channels = value(Tag::SamplesPerPixel, 1);
    let colours = PhotometricInterpretation::from_u16(value(Tag::PhotometricInterpretation, 1))?;
    let samples = (SampleFormat::from_u16_exhaustive(value(Tag::SampleFormat, 1)), value(Tag::BitsPerSample, 1));
    let parts = [
        (of_colours(colours, channels, compression), "convert the photo to grey or RGB of 8 or 16 bits"),
        (of_samples(samples), "convert the photo to 8 or 16 bits"),
        (of_compression(compression, colours), "save the photo uncompressed, with LZW or as PNG"),
    ];
    let (what, advice) = parts.into_iter().find_map(|(what, advice)| Some((what?, advice)))?;
    Some(format!("a TIFF with {what} is not supported: {advice}"))
}

fn of_colours(colours: PhotometricInterpretation, channels: u16, compression: CompressionMethod) -> Option<String> {
    use PhotometricInterpretation::{BlackIsZero, CIELab, IccLab, ItuLab, RGBPalette, WhiteIsZero, YCbCr};
    Some(match colours {
        RGBPalette => "a palette".into(),
        // What JPEG makes of RGB.
        YCbCr if compression == CompressionMethod::ModernJPEG => return None,
        YCbCr => "YCbCr colours".into(),
        CIELab | IccLab | ItuLab => "Lab colours".into(),
        BlackIsZero | WhiteIsZero if channels > 1 => format!("grey in {channels} channels"),
        _ => return None,
    })
}

fn of_samples(samples: (SampleFormat, u16)) -> Option<String> {
    Some(match samples {
        (SampleFormat::Uint, 1 | 8 | 16) => return None,
        (SampleFormat::Uint, bits) => format!("{bits}-bit integer samples"),
        (SampleFormat::Int, bits) => format!("{bits}-bit signed integer samples"),
        (SampleFormat::IEEEFP, bits) => format!("{bits}-bit floating-point samples"),
        (other, _) => format!("samples of format {}", other.to_u16()),
    })
}

fn of_compression(compression: CompressionMethod, colours: PhotometricInterpretation) -> Option<String> {
    use CompressionMethod::{
        Deflate, Fax3, Fax4, Huffman, JPEG, LZW, ModernJPEG, None as Uncompressed, OldDeflate, PackBits, WebP, ZSTD,
    };
    Some(match compression {
        ModernJPEG if colours == PhotometricInterpretation::YCbCr => "JPEG compression in YCbCr colours".into(),
        Uncompressed | LZW | Deflate | OldDeflate | PackBits | ModernJPEG | Fax4 => return None,
        Huffman | Fax3 => "fax compression of group 3".into(),
        JPEG => "JPEG compression of TIFF 6.0".into(),
        WebP => "WebP compression".into(),
        ZSTD => "Zstandard compression".into(),
        other => format!("compression {}", other.to_u16()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Photo, header};

    const BITS: u16 = 258;
    const COMPRESSION: u16 = 259;
    const COLOURS: u16 = 262;
    const CHANNELS: u16 = 277;
    const FORMAT: u16 = 339;

    /// Tags, each with one value.
    type Tags = [(u16, u16)];

    /// A TIFF, or a BigTIFF, of two pixels in a row: of 8-bit grey, but for what these tags say.
    fn tiff(big: bool, tags: &Tags, strip: &[u8]) -> Vec<u8> {
        let number = |number: usize, bytes: usize| number.to_le_bytes()[..bytes].to_vec();
        let (wide, begin) =
            if big { (8, &b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0"[..]) } else { (4, &b"II\x2a\0\x08\0\0\0"[..]) };
        let [offset, length] = [273, 279];
        let mut all = BTreeMap::from([(256, 2), (257, 1), (BITS, 8), (COLOURS, 1), (offset, 0), (length, strip.len())]);
        all.extend(tags.iter().map(|&(tag, value)| (tag, usize::from(value))));
        let head = if big { 8 } else { 2 };
        all.insert(offset, begin.len() + head + all.len() * (4 + 2 * wide) + wide);
        let entry = |(tag, value)| [number(tag, 2), number(3, 2), number(1, wide), number(value, wide)].concat();
        let count = number(all.len(), head);
        let entries: Vec<u8> = all.into_iter().flat_map(|(tag, value)| entry((tag.into(), value))).collect();
        [begin, &count, &entries, &number(0, wide), strip].concat()
    }

    #[test]
    fn what_is_not_read_is_refused_by_its_name() {
        let samples = "convert the photo to 8 or 16 bits";
        let colours = "convert the photo to grey or RGB of 8 or 16 bits";
        let compression = "save the photo uncompressed, with LZW or as PNG";
        let cases: [(&Tags, &str, &str); 16] = [
            (&[(BITS, 32), (FORMAT, 3)], "32-bit floating-point samples", samples),
            (&[(BITS, 64), (FORMAT, 3)], "64-bit floating-point samples", samples),
            (&[(BITS, 16), (FORMAT, 3)], "16-bit floating-point samples", samples),
            (&[(BITS, 32), (FORMAT, 3), (COLOURS, 2), (CHANNELS, 3)], "32-bit floating-point samples", samples),
            (&[(BITS, 32), (COLOURS, 2), (CHANNELS, 3)], "32-bit integer samples", samples),
            (&[(BITS, 32)], "32-bit integer samples", samples),
            (&[(BITS, 12)], "12-bit integer samples", samples),
            (&[(BITS, 16), (FORMAT, 2)], "16-bit signed integer samples", samples),
            (&[(BITS, 64), (FORMAT, 6)], "samples of format 6", samples),
            (&[(COLOURS, 3)], "a palette", colours),
            (&[(COLOURS, 6), (CHANNELS, 3)], "YCbCr colours", colours),
            (&[(COLOURS, 6), (CHANNELS, 3), (COMPRESSION, 7)], "JPEG compression in YCbCr colours", compression),
            (&[(COLOURS, 8), (CHANNELS, 3)], "Lab colours", colours),
            (&[(CHANNELS, 2)], "grey in 2 channels", colours),
            (&[(COMPRESSION, 3), (BITS, 1)], "fax compression of group 3", compression),
            (&[(COMPRESSION, 50_000)], "Zstandard compression", compression),
        ];
        for (tags, what, advice) in cases {
            let expected = format!("photo part.tif: a TIFF with {what} is not supported: {advice}");
            for big in [false, true] {
                let file = tiff(big, tags, &[0; 64]);
                assert_eq!(Photo::decode("part.tif", &file).unwrap_err().to_string(), expected);
                // Only compression is first met by reading the picture.
                let from_header = header("part.tif", &file).err().map(|error| error.to_string());
                assert_eq!(from_header, (tags[0].0 != COMPRESSION).then_some(expected.clone()));
            }
        }
    }

    #[test]
    fn usual_kinds_are_read_with_zero_as_black_or_white() {
        let grey = |a: u8, b: u8| [a, a, a, b, b, b];
        let cases: [(&Tags, &[u8], [u8; 6]); 7] = [
            (&[], &[7, 100], grey(7, 100)),
            (&[(COLOURS, 0)], &[7, 100], grey(248, 155)),
            (&[(BITS, 16)], &[7, 0, 100, 0], grey(7, 100)),
            (&[(BITS, 16), (COLOURS, 0)], &[248, 255, 155, 255], grey(7, 100)),
            (&[(BITS, 1)], &[0b0100_0000], grey(0, 255)),
            (&[(BITS, 1), (COLOURS, 0)], &[0b0100_0000], grey(255, 0)),
            (&[(COLOURS, 5), (CHANNELS, 4)], &[0, 255, 255, 0, 255, 0, 0, 0], [255, 0, 0, 0, 255, 255]),
        ];
        for (tags, strip, expected) in cases {
            for big in [false, true] {
                let photo = Photo::decode("part.tif", &tiff(big, tags, strip)).unwrap();
                assert_eq!(photo, Photo { width: 2, height: 1, rgb: expected.to_vec() }, "{tags:?}");
            }
        }
    }
}
