//! What is said about a photo, as a row of JSON, CSV or a table.

use anyhow::Result;
use dinomaly_core::maps::defects::Defect;
use serde::Serialize;

use super::{Drift, Judgement, Verdict};

/// A photo of the output. Columns that were not asked for are absent.
#[derive(Serialize)]
pub struct Row {
    /// The photo's name.
    pub photo: String,
    /// The image score.
    pub score: f32,
    /// Score above which a photo is defective.
    pub threshold: f32,
    /// 0 for a typical good part of the class, 1 at the threshold.
    pub normalised: f32,
    /// Whether the photo is not good: defective or unknown.
    pub defective: bool,
    /// `good`, `defective` or `unknown`.
    pub verdict: &'static str,
    /// Class that the photo is nearest to, if the model tells products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// Share of the map that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<Drift>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    found: Option<Found>,
}

/// The regions of a photo.
#[derive(Serialize)]
struct Found {
    pixel_threshold: f32,
    regions: Vec<Region>,
}

/// A region, in pixels of the photo.
#[derive(Serialize)]
struct Region {
    x0: f64,
    y0: f64,
    x1: f64,
    y1: f64,
    area: f64,
    peak: f32,
    mean: f32,
    outline: Vec<[f64; 2]>,
}

/// Hundredths of a pixel are exact enough.
fn rounded(pixels: f64) -> f64 {
    (100.0 * pixels).round() / 100.0
}

impl From<&Defect> for Region {
    fn from(defect: &Defect) -> Self {
        let [x0, y0, x1, y1] = [defect.bounds.x0, defect.bounds.y0, defect.bounds.x1, defect.bounds.y1].map(rounded);
        let outline = defect.outline.iter().map(|corner| corner.map(rounded)).collect();
        Self { x0, y0, x1, y1, area: rounded(defect.area), peak: defect.peak, mean: defect.mean, outline }
    }
}

impl Region {
    /// The outline as a polygon in Well-Known Text, which closes with the first corner.
    fn polygon(&self) -> String {
        let corners = self.outline.iter().chain(self.outline.first());
        let corners: Vec<String> = corners.map(|[x, y]| format!("{x} {y}")).collect();
        format!("POLYGON (({}))", corners.join(", "))
    }
}

impl Row {
    /// The row of a photo without what is said about parts of it and about the line.
    pub fn new(photo: String, judgement: &Judgement) -> Self {
        let found = judgement.regions.as_ref().map(|found| Found {
            pixel_threshold: found.pixel_threshold,
            regions: found.regions.iter().map(Region::from).collect(),
        });
        Self {
            photo,
            score: judgement.score,
            threshold: judgement.threshold,
            normalised: judgement.normalised,
            defective: judgement.is_defective() || judgement.is_unknown(),
            verdict: judgement.word(),
            nearest: judgement.product.as_ref().map(|product| product.nearest.clone()),
            counted: None,
            drift: None,
            found,
        }
    }

    /// The pixel threshold, and the regions as JSON, if they were asked for.
    ///
    /// # Errors
    /// If a value is no number.
    pub fn regions(&self) -> Result<Option<(f32, String)>> {
        let json = |found: &Found| Ok((found.pixel_threshold, serde_json::to_string(&found.regions)?));
        self.found.as_ref().map(json).transpose()
    }

    /// The row as CSV, with the column names above it if `headed`: a line, or one for each region of a photo that has some.
    ///
    /// # Errors
    /// If a value is no number.
    pub fn csv(&self, headed: bool) -> Result<String> {
        let mut names = vec!["photo", "score", "threshold", "normalised", "defective", "verdict"];
        let mut cells = vec![
            self.photo.clone(),
            number(&self.score)?,
            number(&self.threshold)?,
            number(&self.normalised)?,
            self.defective.to_string(),
            self.verdict.to_owned(),
        ];
        if let Some(nearest) = &self.nearest {
            names.push("nearest");
            cells.push(nearest.clone());
        }
        if let Some(counted) = self.counted {
            names.push("counted");
            cells.push(counted.to_string());
        }
        if let Some(drift) = &self.drift {
            names.push("drift");
            cells.push(drift.index.map(|index| index.to_string()).unwrap_or_default());
        }
        let mut lines = Vec::new();
        if let Some(Found { pixel_threshold, regions }) = &self.found {
            names.extend(["pixel_threshold", "region", "x0", "y0", "x1", "y1", "area", "peak", "mean", "outline"]);
            cells.push(number(pixel_threshold)?);
            for (i, region) in regions.iter().enumerate() {
                let Region { x0, y0, x1, y1, area, peak, mean, .. } = region;
                let mut line = cells.clone();
                line.push((i + 1).to_string());
                for value in [x0, y0, x1, y1, area] {
                    line.push(value.to_string());
                }
                line.extend([number(peak)?, number(mean)?, region.polygon()]);
                lines.push(line);
            }
        }
        if lines.is_empty() {
            cells.resize(names.len(), String::new());
            lines.push(cells);
        }
        let mut csv = csv::Writer::from_writer(Vec::new());
        if headed {
            csv.write_record(names)?;
        }
        for line in lines {
            csv.write_record(line)?;
        }
        Ok(String::from_utf8(csv.into_inner()?)?)
    }
}

impl From<&Verdict> for Row {
    fn from(verdict: &Verdict) -> Self {
        let row = Self::new(verdict.path.display().to_string(), &verdict.judgement);
        Self { counted: verdict.counted, drift: verdict.drift, ..row }
    }
}

/// A number as in JSON.
fn number(value: &f32) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(found: Option<Found>) -> Row {
        Row {
            photo: "a,b.png".into(),
            score: 0.25,
            threshold: 0.5,
            normalised: 0.0,
            defective: false,
            verdict: "good",
            nearest: None,
            counted: None,
            drift: None,
            found,
        }
    }

    fn region(x0: f64) -> Region {
        let outline = vec![[x0, 1.0], [3.0, 1.0], [3.0, 2.5], [x0, 2.5]];
        Region { x0, y0: 1.0, x1: 3.0, y1: 2.5, area: 3.75, peak: 0.75, mean: 0.5, outline }
    }

    #[test]
    fn a_photo_is_a_line_and_each_region_one_of_its_own() {
        assert_eq!(row(None).csv(false).unwrap(), "\"a,b.png\",0.25,0.5,0.0,false,good\n");
        let head = "photo,score,threshold,normalised,defective,verdict\n";
        assert!(row(None).csv(true).unwrap().starts_with(head));
        let found = |regions| Some(Found { pixel_threshold: 0.7, regions });
        let none = row(found(vec![])).csv(true).unwrap();
        let (head, line) = none.split_once('\n').unwrap();
        assert!(head.ends_with(",pixel_threshold,region,x0,y0,x1,y1,area,peak,mean,outline"), "{head}");
        assert_eq!(line, "\"a,b.png\",0.25,0.5,0.0,false,good,0.7,,,,,,,,,\n");
        assert_eq!(
            row(found(vec![region(0.5), region(1.0)])).csv(false).unwrap(),
            "\"a,b.png\",0.25,0.5,0.0,false,good,0.7,1,0.5,1,3,2.5,3.75,0.75,0.5,\"POLYGON ((0.5 1, 3 1, 3 2.5, 0.5 2.5, 0.5 1))\"\n\
             \"a,b.png\",0.25,0.5,0.0,false,good,0.7,2,1,1,3,2.5,3.75,0.75,0.5,\"POLYGON ((1 1, 3 1, 3 2.5, 1 2.5, 1 1))\"\n"
        );
    }

    #[test]
    fn what_was_asked_for_has_its_column() {
        let drift = |index| Some(Drift { photos: 7, index, alarm: 0.25, drifted: false });
        let csv = Row { counted: Some(0.5), drift: drift(None), ..row(None) }.csv(true).unwrap();
        assert_eq!(
            csv,
            "photo,score,threshold,normalised,defective,verdict,counted,drift\n\"a,b.png\",0.25,0.5,0.0,false,good,0.5,\n"
        );
        let unknown = Row { defective: true, verdict: "unknown", nearest: Some("nut, small".into()), ..row(None) };
        let head = "photo,score,threshold,normalised,defective,verdict,nearest\n";
        assert_eq!(unknown.csv(true).unwrap(), format!("{head}\"a,b.png\",0.25,0.5,0.0,true,unknown,\"nut, small\"\n"));
        let csv = Row { drift: drift(Some(0.125)), ..row(None) }.csv(false).unwrap();
        assert_eq!(csv, "\"a,b.png\",0.25,0.5,0.0,false,good,0.125\n");
        let json = serde_json::to_value(Row { drift: drift(None), ..row(None) }).unwrap();
        assert_eq!(json["drift"], serde_json::json!({"photos": 7, "index": null, "alarm": 0.25, "drifted": false}));
    }

    #[test]
    fn json_has_regions_only_if_they_were_asked_for() {
        let json = serde_json::to_value(row(None)).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 6, "{json}");
        let json = serde_json::to_value(row(Some(Found { pixel_threshold: 0.5, regions: vec![region(1.0)] }))).unwrap();
        assert_eq!((&json["pixel_threshold"], &json["regions"][0]["x1"]), (&0.5.into(), &3.0.into()));
        assert_eq!(json["regions"][0]["outline"][2], serde_json::json!([3.0, 2.5]));
    }
}
