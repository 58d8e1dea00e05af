//! `dinomaly reproduce`: tables of the Dinomaly paper, trained, evaluated and put beside the published figures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::ablate::{Training, training};
use super::options::{DevicesOption, about_precision, named, within};
use crate::ablation::{Ablation, Encoders};
use crate::dataset::published::DataSet;
use crate::encoders::catalogue;
use crate::reproduction::{self, Costs, Plan, Request, StandIns, Table, tables};
use crate::system::interrupt::Interrupt;
use crate::system::precision::TrainingPrecision;
use crate::system::table::align;

/// Arguments of `dinomaly reproduce`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Numbers of the paper's tables, such as 3 or A12
    #[arg(required_unless_present = "list", value_name = "TABLE")]
    tables: Vec<String>,
    /// List tables and figures: what is computed, on which data sets and encoders
    #[arg(long)]
    list: bool,
    /// Folder of a data set, as NAME=PATH: mvtec, visa, real-iad, mpdd, btad, uni-medical
    ///
    /// Give the option once for each data set. PATH alone is enough if the tables have one data set. Rows of data sets that are not given
    /// are named, and the others run.
    #[arg(long, value_name = "[NAME=]PATH")]
    data: Vec<Data>,
    /// Folder to write models, metrics and tables to
    ///
    /// The same command again goes on with what is unfinished. Tables that share a training share its model if they share the folder.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// Names of the rows to compute [default: all]
    #[arg(long, value_delimiter = ',', value_name = "ROW,…")]
    rows: Vec<String>,
    /// Seeds of rows that have none of their own [default: 1, the paper's]
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    seeds: Vec<u64>,
    /// File of an encoder that is known by name, as NAME=FILE, such as ibot-base=checkpoint_teacher.pth
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_encoder)]
    encoder: Vec<(String, PathBuf)>,
    /// Share of good photos held out from training; the paper has none
    #[arg(
        long, default_value_t = 0.0, allow_negative_numbers = true, value_parser = within(0.0, 0.5), value_name = "SHARE"
    )]
    holdout: f64,
    /// Precision of matrix products; the paper has f32
    #[arg(
        long, default_value = "f32", value_parser = named(&TrainingPrecision::ALL, TrainingPrecision::name, about_precision)
    )]
    precision: TrainingPrecision,
    #[command(flatten)]
    devices: DevicesOption,
    /// Try the plans out: encoders with random weights and two iterations, so that nothing found is a result
    #[arg(long)]
    stand_in: bool,
}

/// A data set's folder, with the name of the data set if it is given.
#[derive(Clone, Debug)]
struct Data {
    set: Option<DataSet>,
    path: PathBuf,
}

impl FromStr for Data {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let set = |name: &str| DataSet::ALL.into_iter().find(|set| set.name() == name);
        Ok(match text.split_once('=') {
            Some((name, path)) if set(name).is_some() => Self { set: set(name), path: path.into() },
            // A path may hold an equals sign; a word alone before it is a name.
            Some((name, _)) if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                let known = DataSet::ALL.map(DataSet::name).join(", ");
                return Err(format!("there is no data set {name}: expected one of {known}"));
            }
            _ => Self { set: None, path: text.into() },
        })
    }
}

fn parse_encoder(text: &str) -> Result<(String, PathBuf)> {
    let (name, file) = text.split_once('=').context("expected NAME=FILE")?;
    let file = PathBuf::from(file);
    if !file.exists() {
        bail!("{} does not exist", file.display());
    }
    Ok((catalogue::find(name)?.name.clone(), file))
}

/// Lists tables, or trains and evaluates their rows and writes them beside the published figures.
///
/// # Errors
/// If a table, row or folder is unknown; if no row can be computed; as [`Ablation::run`]; if a row failed, after all others.
pub fn run(args: &Args) -> Result<()> {
    if args.list {
        print!("{}", list());
        return Ok(());
    }
    let out = args.out.as_deref().context("the folder to write to is missing: --out DIR")?;
    let tables = args.tables.iter().map(|number| tables::find(number)).collect::<Result<Vec<_>>>()?;
    let mut plan = Plan::new(&tables, &request(args, &tables)?)?;
    reproduction::check_folder(out, &plan)?;
    if args.stand_in {
        StandIns::of(out).write(tables.iter().flat_map(|table| table.encoders()))?;
    }
    let mut encoders = Encoders::default();
    let trainings = trainings(args, &mut plan, &mut encoders)?;
    print!("{}", plan.summary());
    if plan.cells.is_empty() {
        let numbers: Vec<&str> = tables.iter().map(|table| table.number).collect();
        bail!("no row of Table {} can be computed: the reasons stand above", numbers.join(", "));
    }
    let ablation = Ablation::new(out, plan.cells.iter().cloned().zip(trainings).collect(), &mut encoders)?;
    let interrupt = Interrupt::listen("finishing this step")?;
    let ran = ablation.run(&interrupt, &mut |cells| reproduction::write(out, &plan, cells))?;
    reproduction::write(out, &plan, &ran.cells)?;
    print!("{}", reproduction::text(&plan, &ran.cells));
    ran.check()
}

/// The trainings of a plan's cells. Cells whose encoder is absent or does not fit are left out of the plan.
fn trainings(args: &Args, plan: &mut Plan, encoders: &mut Encoders) -> Result<Vec<Training>> {
    let devices = args.devices.words();
    let out = args.out.as_deref().context("the folder to write to is missing: --out DIR")?;
    let (mut found, mut reasons, mut costs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for cell in &plan.cells {
        let training = training(cell, out, &devices)?;
        match encoders.model(&training) {
            Ok(model) => {
                if !plan.stand_in {
                    let grid = training.geometry().grid(model.encoder.patch_size);
                    costs.insert(cell.file_name(), Costs::of(model, grid)?);
                }
                found.insert(cell.file_name(), training);
            }
            Err(error) => {
                reasons.insert(cell.file_name(), format!("{error:#}"));
            }
        }
    }
    plan.leave(&reasons);
    plan.costs = costs;
    let trainings = plan.cells.iter().map(|cell| found.remove(&cell.file_name()).context("each cell has a training"));
    trainings.collect()
}

fn request(args: &Args, tables: &[&Table]) -> Result<Request> {
    let mut sets: Vec<DataSet> = tables.iter().flat_map(|table| table.data_sets()).collect();
    sets.sort_unstable();
    sets.dedup();
    let mut data = BTreeMap::new();
    for Data { set, path } in &args.data {
        let set = match (set, &sets[..]) {
            (Some(set), _) => *set,
            (None, [only]) => *only,
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|set| set.name()).collect();
                let (first, path) = (names[0], path.display());
                bail!(
                    "--data {path} does not say of which data set: expected --data {first}={path} ({})",
                    names.join(", ")
                );
            }
        };
        if data.insert(set, path.clone()).is_some() {
            bail!("--data is given twice for {}", set.name());
        }
    }
    let text = |text: String| toml::Value::String(text);
    let options = toml::Table::from_iter([
        ("holdout".to_owned(), text(args.holdout.to_string())),
        ("precision".to_owned(), text(args.precision.name().to_owned())),
    ]);
    Ok(Request {
        data,
        rows: args.rows.clone(),
        seeds: args.seeds.clone(),
        encoders: args.encoder.iter().cloned().collect(),
        options,
        stand_ins: args.out.as_deref().filter(|_| args.stand_in).map(StandIns::of),
    })
}

/// Tables and figures, a line each.
fn list() -> String {
    let mut rows = vec![["table", "rows", "computed", "data", "encoders"].map(str::to_owned).to_vec()];
    for table in tables::all() {
        let computed = table.rows.iter().filter(|row| row.method.is_none()).count();
        let data: Vec<&str> = table.data_sets().into_iter().map(DataSet::name).collect();
        let encoders = if computed == 0 { "–".to_owned() } else { table.encoders().join(" ") };
        rows.push(vec![
            format!("{}  {}", table.number, table.title),
            table.rows.len().to_string(),
            computed.to_string(),
            data.join(" "),
            encoders,
        ]);
    }
    let mut text = align(&rows);
    text += "\nRows that are not computed are other methods': their published figures stand in the tables.\n\n";
    for figure in tables::figures() {
        text += &format!("Figure {}: {} — {}\n", figure.number, figure.title, figure.how);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use dinomaly_core::model::config::{BottleneckInput, EncoderConfig, Mixer, ModelConfig};
    use dinomaly_core::photo::preprocess::Geometry;

    use super::*;
    use crate::ablation::Cell;
    use crate::ablation::plan::option;
    use crate::reproduction::{PlannedRow, Row};
    use crate::system::device::DeviceChoice;
    use crate::training::Preset;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(options: &str) -> Result<Args, clap::Error> {
        let line = format!("reproduce {options}");
        Command::try_parse_from(line.split_whitespace()).map(|command| command.args)
    }

    /// All tables with every data set.
    fn everything() -> Plan {
        let data = DataSet::ALL.map(|set| format!("--data {}=.", set.name())).join(" ");
        let tables: Vec<&Table> = tables::all().iter().collect();
        let args = parse(&format!("1 {data} --out o")).unwrap();
        Plan::new(&tables, &request(&args, &tables).unwrap()).unwrap()
    }

    /// The encoder of a training as the catalogue and its paper have it.
    fn encoder(training: &Training) -> EncoderConfig {
        let name = training.backbone.as_deref().and_then(Path::to_str).unwrap();
        let shape = catalogue::find(name).unwrap().shape();
        let of_dinov2 = name.starts_with("dinov2");
        EncoderConfig {
            position_grid: if of_dinov2 { 37 } else { 14 },
            num_register_tokens: if name.starts_with("dinov2-reg") { 4 } else { 0 },
            ..shape
        }
    }

    /// Goes through every row of the paper's tables and asks the planner for it: another method's row is refused by its name, and every other
    /// one is a training of `train` whose model fits its encoder, without held-out photos and in f32, with the paper's costs.
    #[test]
    fn every_row_of_the_paper_can_be_asked_for() {
        let plan = everything();
        let (mut computed, mut refused, mut counted) = (0, 0, 0);
        for (table, planned) in &plan.tables {
            for (row, planned) in table.rows.iter().zip(planned) {
                let said = format!("Table {}, {} on {}", table.number, row.name, row.data.title());
                let names = match (planned, &row.method) {
                    (PlannedRow::Left(reason), Some(method)) => {
                        assert!(reason.starts_with(&format!("{method} is not computed here: ")), "{said}: {reason}");
                        refused += 1;
                        continue;
                    }
                    (PlannedRow::Cells(names), None) => names,
                    (other, method) => panic!("{said}: {other:?} of {method:?}"),
                };
                computed += 1;
                for name in names {
                    let cell = plan.cells.iter().find(|cell| cell.file_name() == *name).unwrap();
                    let training = training(cell, Path::new("o"), &[]).unwrap_or_else(|e| panic!("{said}: {e:#}"));
                    assert_eq!((training.holdout, training.precision), (0.0, Some(TrainingPrecision::F32)), "{said}");
                    let geometry = training.geometry();
                    let model = training.variant.model(encoder(&training), geometry);
                    let model = model.unwrap_or_else(|e| panic!("{said}: {e:#}"));
                    counted += usize::from(has_the_costs(row, model, geometry, &said));
                }
                for (key, value) in &row.options {
                    let said_twice = |(name, preset): (&str, &str)| {
                        option(key, value).unwrap() == Some(format!("--{}={preset}", name.replace('_', "-")))
                    };
                    assert!(!row.preset.settings().into_iter().any(said_twice), "{said}: {key}");
                }
            }
        }
        assert_eq!((computed, refused), (254, 64));
        assert_eq!(counted, 3 + 8 + 10);
    }

    /// Whether a row has published costs, which are then compared. ViTAD's are another project's count, 2.4 % below; 14.5 GMACs of
    /// Dinomaly-Small-280² do not follow from those at 392², as 53.7 of the base do.
    fn has_the_costs(row: &Row, model: ModelConfig, view: Geometry, said: &str) -> bool {
        let grid = view.grid(model.encoder.patch_size);
        let found = Costs::of(model, grid).unwrap();
        let tolerance = match (row.preset, &*row.name) {
            (Preset::Vitad, _) => 0.03,
            (_, "Dinomaly-Small-280²") => 0.08,
            _ => 0.01,
        };
        for (found, published) in [(found.parameters, row.parameters), (found.macs, row.macs)] {
            if let Some(published) = published {
                assert!((found / published - 1.0).abs() < tolerance, "{said}: {found}, published {published}");
            }
        }
        row.macs.is_some()
    }

    /// What a row of the paper says beside its preset.
    #[test]
    fn rows_have_the_schedules_and_inputs_of_the_paper() {
        let plan = everything();
        let of = |number: &str, set: DataSet, name: &str| -> (Training, Cell) {
            let (table, planned) = plan.tables.iter().find(|(table, _)| table.number == number).unwrap();
            let place = table.rows.iter().position(|row| row.name == name && row.data == set);
            let PlannedRow::Cells(names) = &planned[place.unwrap_or_else(|| panic!("{number} {name}"))] else {
                panic!("{number} {name} is left")
            };
            let cell = plan.cells.iter().find(|cell| cell.file_name() == names[0]).unwrap();
            (training(cell, Path::new("o"), &[]).unwrap(), cell.clone())
        };
        let iterations = |set, name| of("1", set, name).0.iterations;
        for (set, usual, longer) in
            [(DataSet::Mvtec, 10_000, 20_000), (DataSet::Visa, 10_000, 20_000), (DataSet::RealIad, 50_000, 100_000)]
        {
            assert_eq!(iterations(set, "Dinomaly"), usual);
            assert_eq!(iterations(set, "Dinomaly (longer schedule)"), longer);
        }
        assert_eq!(iterations(DataSet::RealIad, "ViTAD"), 50_000);
        let dropout = |number, set, name| of(number, set, name).0.variant.dropout;
        assert_eq!(dropout("1", DataSet::RealIad, "Dinomaly"), 0.4);
        assert_eq!(dropout("A13", DataSet::UniMedical, "Dinomaly"), 0.4);
        assert_eq!(dropout("A13", DataSet::Btad, "Dinomaly"), 0.2);
        let (separate, cell) = of("2", DataSet::RealIad, "Dinomaly");
        assert_eq!((cell.separate, separate.iterations, separate.variant.dropout), (true, 5_000, 0.2));
        assert_eq!(of("2", DataSet::Visa, "Dinomaly").0.optimizer_eps, 1e-8);
        let view = |number, name| {
            let Geometry { resize, crop } = of(number, DataSet::Mvtec, name).0.geometry();
            (resize, crop)
        };
        assert_eq!(view("A1", "iBOT R512-C448"), (512, 448));
        assert_eq!(view("A1", "BEiT v2 R256-C224"), (256, 224));
        assert_eq!(view("A1", "DINOv2 R448-C392"), (448, 392));
        assert_eq!((view("A2", "R448"), view("A2", "R392"), view("A2", "R280")), ((448, 448), (392, 392), (280, 280)));
        assert_eq!((view("5", "Dinomaly 280²"), view("A11", "Dinomaly-Small-280²")), ((320, 280), (320, 280)));
        assert_eq!((view("A10", "DINO 256²"), view("A10", "DINO 384²")), ((256, 256), (384, 384)));
        assert_eq!(view("A10", "DINOv2-R 256²"), (256, 252));
        let (vitad, _) = of("A10", DataSet::Mvtec, "MAE 256²");
        assert_eq!(vitad.backbone.as_deref(), Some(Path::new("mae-base")));
        let input = vitad.variant.bottleneck_input;
        assert_eq!((vitad.variant.dropout, vitad.variant.mining_rate, input), (0.0, 0.0, BottleneckInput::Last));
        let none = of("3", DataSet::Mvtec, "none").0.variant;
        assert_eq!((none.dropout, none.mining_rate, none.decoder.0), (0.0, 0.0, Mixer::Softmax));
        assert_eq!(of("A4", DataSet::Visa, "NB + LC").0.variant.mining_rate, 0.0);
        assert_eq!(of("A8", DataSet::Mvtec, "Patch Masking 0.3").0.variant.patch_masking, 0.3);
        assert_eq!(of("A12", DataSet::Mvtec, "seed 4").0.seed, 4);
    }

    #[test]
    fn data_sets_are_named_where_there_are_several() {
        let told = |options: &str| -> Result<Request> {
            let args = parse(&format!("{options} --out o")).unwrap();
            let tables: Vec<&Table> = args.tables.iter().map(|number| tables::find(number).unwrap()).collect();
            request(&args, &tables)
        };
        assert_eq!(told("3 --data ./a=b/photos").unwrap().data[&DataSet::Mvtec], Path::new("./a=b/photos"));
        assert_eq!(told("3 A5 --data ./photos").unwrap().data[&DataSet::Mvtec], Path::new("./photos"));
        let data = told("1 --data visa=v --data real-iad=r").unwrap().data;
        assert_eq!(data.into_iter().collect::<Vec<_>>(), [(DataSet::Visa, "v".into()), (DataSet::RealIad, "r".into())]);
        let error = told("1 --data photos").unwrap_err().to_string();
        assert!(error.contains("does not say of which data set: expected --data mvtec=photos"), "{error}");
        let error = told("3 --data x --data mvtec=y").unwrap_err().to_string();
        assert_eq!(error, "--data is given twice for mvtec");
        assert!(parse("3 --data vissa=x --out o").unwrap_err().to_string().contains("there is no data set vissa"));
        assert!(parse("3 --data x").unwrap_err().to_string().contains("--out"));
        assert!(parse("--list").is_ok() && parse("").is_err());
        let error = parse("3 --out o --encoder ibot-base=nowhere.pth").unwrap_err().to_string();
        assert!(error.contains("nowhere.pth does not exist"), "{error}");
    }

    #[test]
    fn the_device_is_no_setting_of_a_cell() {
        let args = parse("3 --data . --out o --devices 0,1 --precision bf16 --holdout 0.1 --seeds 3,4").unwrap();
        let tables = [tables::find("3").unwrap()];
        let plan = Plan::new(&tables, &request(&args, &tables).unwrap()).unwrap();
        assert_eq!(plan.cells.len(), 20);
        let cell = plan.cells.last().unwrap();
        assert!(!cell.options.iter().any(|option| option.starts_with("--device")), "{:?}", cell.options);
        let training = training(cell, Path::new("o"), &args.devices.words()).unwrap();
        assert_eq!(training.devices, [DeviceChoice::Cuda(0), DeviceChoice::Cuda(1)]);
        assert_eq!((training.precision, training.holdout, training.seed), (Some(TrainingPrecision::Bf16), 0.1, 4));
    }

    #[test]
    fn the_list_names_every_table() {
        let text = list();
        for table in tables::all() {
            assert!(text.lines().any(|line| line.split_whitespace().next() == Some(table.number)), "{text}");
        }
        assert!(text.contains("Figure 5:") && text.contains("mvtec visa real-iad"), "{text}");
    }
}
