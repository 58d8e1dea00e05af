//! Rows of a table in CSV or Parquet, as texts.

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

/// Cells by column; one that is missing or empty is absent.
pub(super) type Row = BTreeMap<String, String>;

/// Whether a path has the ending of a table.
pub(super) fn is_table(path: &Path) -> bool {
    kind(path).is_some()
}

/// The names of a table's columns, and its rows with only these cells. Parquet is read if it is not compressed or compressed with Snappy.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn read(path: &Path, wanted: &[&str]) -> Result<(Vec<String>, Vec<Row>)> {
    match kind(path) {
        Some(Kind::Csv) => csv(path, wanted).with_context(|| format!("table {} cannot be read as CSV", path.display())),
        Some(Kind::Parquet) => caught(|| parquet(path, wanted))
            .with_context(|| format!("table {} cannot be read as Parquet", path.display())),
        None => bail!("{} is no table: expected a file NAME.csv or NAME.parquet", path.display()),
    }
}

enum Kind {
    Csv,
    Parquet,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_string_lossy().to_ascii_lowercase().as_str() {
        "csv" => Some(Kind::Csv),
        "parquet" => Some(Kind::Parquet),
        _ => None,
    }
}

fn csv(path: &Path, wanted: &[&str]) -> Result<(Vec<String>, Vec<Row>)> {
    let mut reader = csv::Reader::from_path(path)?;
    let columns: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_owned()).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cells = columns.iter().zip(record.iter().map(str::trim));
        let cells = cells.filter(|(name, cell)| !cell.is_empty() && wanted.contains(&name.as_str()));
        rows.push(cells.map(|(name, cell)| (name.clone(), cell.to_owned())).collect());
    }
    Ok((columns, rows))
}

fn parquet(path: &Path, wanted: &[&str]) -> Result<(Vec<String>, Vec<Row>)> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None)? {
        let row = row?;
        let cells = row.get_column_iter().filter(|(name, _)| wanted.contains(&name.as_str()));
        let mut texts = Row::new();
        for (name, field) in cells {
            if let Some(text) = text(field).with_context(|| format!("column {name}"))? {
                texts.insert(name.clone(), text);
            }
        }
        rows.push(texts);
    }
    Ok((columns, rows))
}

/// The result of reading Parquet. The crate panics at some damaged files; here this becomes an error, and no panic message is printed.
fn caught<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    // Messages of panics are printed by a hook that all threads share.
    static HOOK: Mutex<()> = Mutex::new(());
    let _alone = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(read));
    panic::set_hook(hook);
    outcome.unwrap_or_else(|_| bail!("it is damaged"))
}

/// A cell as text; `None` if it is empty.
fn text(field: &Field) -> Result<Option<String>> {
    let text = match field {
        Field::Null => return Ok(None),
        Field::Str(text) => text.clone(),
        Field::Bytes(bytes) => bytes.as_utf8()?.to_owned(),
        Field::Bool(value) => value.to_string(),
        Field::Byte(value) => value.to_string(),
        Field::Short(value) => value.to_string(),
        Field::Int(value) => value.to_string(),
        Field::Long(value) => value.to_string(),
        Field::UByte(value) => value.to_string(),
        Field::UShort(value) => value.to_string(),
        Field::UInt(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        // A column of whole numbers with gaps is one of floats in pandas.
        Field::Float(value) if value.is_nan() => return Ok(None),
        Field::Double(value) if value.is_nan() => return Ok(None),
        Field::Float(value) => value.to_string(),
        Field::Double(value) => value.to_string(),
        other => bail!("it holds {other}, expected texts, numbers or true and false"),
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// Writes a table of texts; an empty one is a gap.
    pub fn write_parquet(path: &Path, head: &[&str], rows: &[Vec<String>]) {
        let fields: String = head.iter().map(|name| format!("optional binary {name} (UTF8); ")).collect();
        let schema = Arc::new(parse_message_type(&format!("message table {{ {fields} }}")).unwrap());
        let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for i in 0..head.len() {
            let mut column = group.next_column().unwrap().unwrap();
            let cells: Vec<&String> = rows.iter().map(|row| &row[i]).collect();
            let levels: Vec<i16> = cells.iter().map(|cell| i16::from(!cell.is_empty())).collect();
            let texts: Vec<ByteArray> =
                cells.iter().filter(|cell| !cell.is_empty()).map(|cell| ByteArray::from(cell.as_str())).collect();
            column.typed::<ByteArrayType>().write_batch(&texts, Some(&levels), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_hold_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let [csv, parquet] = ["t.CSV", "t.parquet"].map(|name| folder.path().join(name));
        std::fs::write(&csv, "image_path,split,other\r\n\"a, b.png\",train,x\r\nc.png,,y\r\n").unwrap();
        let rows =
            [vec!["a, b.png".into(), "train".into(), "x".into()], vec!["c.png".into(), String::new(), "y".into()]];
        testing::write_parquet(&parquet, &["image_path", "split", "other"], &rows);
        let wanted = ["image_path", "split"];
        let (columns, rows) = read(&csv, &wanted).unwrap();
        assert_eq!(columns, ["image_path", "split", "other"]);
        assert_eq!(rows[0]["image_path"], "a, b.png");
        assert_eq!(rows[1].keys().collect::<Vec<_>>(), ["image_path"], "a gap");
        assert_eq!(read(&parquet, &wanted).unwrap(), (columns, rows));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("a.csv", "x,y\n1\n"), ("a.parquet", "PAR1 no")] {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let error = format!("{:#}", read(&path, &[]).unwrap_err());
            assert!(error.contains(&format!("{name} cannot be read as ")), "{error}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let [whole, damaged] = ["whole.parquet", "damaged.parquet"].map(|name| folder.path().join(name));
        let rows: Vec<Vec<String>> = (0..5).map(|i| vec![format!("photos/{i}.png"), "train".into()]).collect();
        testing::write_parquet(&whole, &["image_path", "split"], &rows);
        let bytes = std::fs::read(&whole).unwrap();
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xFF] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                std::fs::write(&damaged, changed).unwrap();
                if let Err(error) = read(&damaged, &["image_path"]) {
                    assert!(format!("{error:#}").contains("damaged.parquet cannot be read as Parquet"), "{error:#}");
                }
            }
            std::fs::write(&damaged, &bytes[..at]).unwrap();
            assert!(read(&damaged, &["image_path"]).is_err(), "cut at {at}");
        }
    }
}
