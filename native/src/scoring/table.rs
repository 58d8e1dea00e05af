//! Rows → a Parquet file. Equal rows are equal bytes.

use std::sync::Arc;

use anyhow::Result;
use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, FloatType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::inference::Row;

/// A photo's row, or why the photo cannot be read.
pub struct Line {
    /// The photo's path.
    pub photo: String,
    /// What is said about it.
    pub row: Result<Row, String>,
}

/// A Parquet file of these rows. Unless `regions` were asked for, their columns are absent; of an unreadable photo all columns are empty
/// but its path and the error.
///
/// # Errors
/// If a value is no number.
pub fn parquet(lines: &[Line], regions: bool, about: &[(&str, String)]) -> Result<Vec<u8>> {
    let of_regions = if regions { "optional float pixel_threshold; optional binary regions (JSON);" } else { "" };
    let schema = format!(
        "message scores {{ required binary photo (STRING); optional float score; optional float threshold; optional float normalised; \
         optional boolean defective; optional binary verdict (STRING); optional binary nearest (STRING); {of_regions} \
         optional binary error (STRING); }}"
    );
    let about = about.iter().map(|(key, value)| KeyValue::new(format!("dinomaly.{key}"), value.clone())).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(format!("dinomaly {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(about));
    let mut bytes = Vec::new();
    let mut file =
        SerializedFileWriter::new(&mut bytes, Arc::new(parse_message_type(&schema)?), Arc::new(properties.build()))?;
    let mut group = file.next_row_group()?;
    let rows: Vec<Option<&Row>> = lines.iter().map(|line| line.row.as_ref().ok()).collect();
    let text = |text: &str| ByteArray::from(text);
    required(&mut group, lines.iter().map(|line| text(&line.photo)).collect())?;
    optional::<FloatType>(&mut group, rows.iter().map(|row| Some(row.as_ref()?.score)))?;
    optional::<FloatType>(&mut group, rows.iter().map(|row| Some(row.as_ref()?.threshold)))?;
    optional::<FloatType>(&mut group, rows.iter().map(|row| Some(row.as_ref()?.normalised)))?;
    optional::<BoolType>(&mut group, rows.iter().map(|row| Some(row.as_ref()?.defective)))?;
    optional::<ByteArrayType>(&mut group, rows.iter().map(|row| Some(text(row.as_ref()?.verdict))))?;
    optional::<ByteArrayType>(&mut group, rows.iter().map(|row| row.as_ref()?.nearest.as_deref().map(text)))?;
    if regions {
        let found = rows.iter().map(|row| row.as_ref().map_or(Ok(None), |row| row.regions()));
        let found = found.collect::<Result<Vec<_>>>()?;
        optional::<FloatType>(&mut group, found.iter().map(|found| Some(found.as_ref()?.0)))?;
        optional::<ByteArrayType>(&mut group, found.iter().map(|found| Some(text(&found.as_ref()?.1))))?;
    }
    optional::<ByteArrayType>(&mut group, lines.iter().map(|line| line.row.as_ref().err().map(|why| text(why))))?;
    group.close()?;
    file.close()?;
    Ok(bytes)
}

type Group<'a, 'b> = SerializedRowGroupWriter<'a, &'b mut Vec<u8>>;

fn required(group: &mut Group<'_, '_>, values: Vec<ByteArray>) -> Result<()> {
    write::<ByteArrayType>(group, &values, None)
}

fn optional<T: DataType>(group: &mut Group<'_, '_>, values: impl Iterator<Item = Option<T::T>>) -> Result<()> {
    let values: Vec<Option<T::T>> = values.collect();
    // 1 where there is a value.
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    write::<T>(group, &values.into_iter().flatten().collect::<Vec<_>>(), Some(&levels))
}

/// The next column.
fn write<T: DataType>(group: &mut Group<'_, '_>, values: &[T::T], levels: Option<&[i16]>) -> Result<()> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, levels, None)?;
        column.close()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;
    use crate::inference::Judgement;

    #[test]
    fn what_is_written_is_read_again() {
        let judgement = Judgement {
            score: 0.1,
            product: None,
            threshold: 0.5,
            normalised: 0.25,
            pixel_threshold: None,
            regions: None,
        };
        let lines = [
            Line { photo: "a.png".into(), row: Ok(Row::new("a.png".into(), &judgement)) },
            Line { photo: "ü.png".into(), row: Err("it is empty".into()) },
        ];
        let write = |regions| parquet(&lines, regions, &[("model", "gear".into())]).unwrap();
        let (bytes, with_regions) = (write(false), write(true));
        assert_eq!(bytes, write(false), "equal rows are equal bytes");
        let columns = |bytes: Vec<u8>| {
            let reader = SerializedFileReader::new(file(bytes)).unwrap();
            let schema = reader.metadata().file_metadata().schema_descr_ptr();
            schema.columns().iter().map(|column| column.name().to_owned()).collect::<Vec<_>>().join(" ")
        };
        let names = "photo score threshold normalised defective verdict nearest";
        assert_eq!(columns(bytes.clone()), format!("{names} error"));
        assert_eq!(columns(with_regions), format!("{names} pixel_threshold regions error"));
        let reader = SerializedFileReader::new(file(bytes)).unwrap();
        let about = reader.metadata().file_metadata().key_value_metadata().unwrap()[0].clone();
        assert_eq!((about.key.as_str(), about.value.as_deref()), ("dinomaly.model", Some("gear")));
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows[0].get_float(1).unwrap(), 0.1);
        assert_eq!((rows[0].get_string(5).unwrap().as_str(), rows[0].is_null(7).unwrap()), ("good", true));
        assert_eq!(
            (rows[1].get_string(0).unwrap().as_str(), rows[1].get_string(7).unwrap().as_str()),
            ("ü.png", "it is empty")
        );
        assert!((1..7).all(|column| rows[1].is_null(column).unwrap()));
    }

    /// What the reader reads from.
    fn file(bytes: Vec<u8>) -> std::fs::File {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        file
    }
}
