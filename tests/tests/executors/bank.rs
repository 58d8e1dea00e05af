//! Operations that compare tokens with stored rows, which heads without training are made of, on every executor.
//!
//! Tolerances as in `ops.rs`, from 1.8e-7 measured of normalised rows and of squared norms, and 9.4e-8 of distances around a place; a
//! minimum and a choice are exact.

use candle_core::Device;
use dinomaly_core::executors::candle::{Candle, Taped, no_noise};
use dinomaly_core::executors::processor::{Processor, ProcessorPrecision};
use dinomaly_core::executors::reference::Reference;
use dinomaly_core::ops::{Ops, Places};
use dinomaly_core::quant::{Format, round_tensor};
use dinomaly_core::tensor::HostTensor;
use dinomaly_tests::executors::{Op, others, reference, webgpu};
use dinomaly_tests::max_difference;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::compare::{check, random, scaled};

#[test]
fn normalize() {
    check("normalisation", 1.8e-6, |generator| {
        // The last one needs more workgroups than a dispatch has in one dimension.
        let sizes = [[1, 1, 1], [3, 3, 5], [1, 1, 384], [3, 50, 130], [1, 7, 4099], [1, 140000, 3]];
        // The last two have norms below the smallest one, or none.
        let factors = [1.0, 300.0, 1e-10, 0.0];
        let cases = sizes.into_iter().flat_map(|shape| {
            let x = random(generator, &shape);
            factors.map(|factor| Op::Normalize(scaled(x.clone(), factor, 0.0)))
        });
        cases.collect()
    });
}

#[test]
fn nearest() {
    check("nearest row", 0.0, |generator| {
        let sizes = [[1, 1, 1], [3, 7, 1], [3, 5, 3], [1, 9, 4099], [3, 6, 130], [1, 33000, 2]];
        // Values around zero, none above it, none below it.
        let ranges = [(1.0, 0.0), (0.5, -0.5), (0.5, 0.5)];
        let cases = sizes.into_iter().flat_map(|shape| {
            ranges.map(|(factor, offset)| {
                let cosines = scaled(random(generator, &shape), factor, offset);
                let before = scaled(random(generator, &shape[..2]), 0.5, 0.7);
                [None, Some(before)].map(|so_far| Op::Nearest { cosines: cosines.clone(), so_far })
            })
        });
        cases.flatten().collect()
    });
}

#[test]
fn squared_norms() {
    check("squared norms", 1.8e-6, |generator| {
        // Batch, tokens, parts, channels of a part.
        let sizes = [
            [1, 1, 1, 1],
            [3, 5, 1, 7],
            [3, 5, 3, 7],
            [1, 33, 3, 130],
            [1, 9, 1, 4099],
            [3, 4, 5, 64],
            [1, 33000, 2, 3],
        ];
        let cases = sizes.into_iter().map(|[batch, tokens, parts, width]| Op::SquaredNorms {
            x: random(generator, &[batch, tokens, parts * width]),
            parts,
        });
        cases.collect()
    });
}

fn choice(generator: &mut ChaCha8Rng, [batch, tokens, n, channels]: [usize; 4]) -> [HostTensor; 3] {
    [[batch, tokens, n].as_slice(), &[batch, tokens, channels], &[n, channels]].map(|shape| random(generator, shape))
}

#[test]
fn choose() {
    check("choice of a prototype", 0.0, |generator| {
        // Batch, tokens, prototypes, channels.
        let sizes = [[1, 1, 1, 1], [3, 5, 1, 7], [3, 6, 3, 130], [1, 9, 4099, 5], [3, 37, 65, 48], [1, 300, 7, 384]];
        let cases = sizes.into_iter().flat_map(|size| {
            let [values, x, prototypes] = choice(generator, size);
            let op = |x: HostTensor, prototypes: HostTensor| Op::Choose { values: values.clone(), x, prototypes };
            // Norms do not matter, those of all prototypes are far from one.
            let large = scaled(prototypes.clone(), 300.0, 0.0);
            // Every prototype of the second half is one of the first.
            let half = prototypes.to_f32()[..size[2].div_ceil(2) * size[3]].repeat(2);
            let twice = HostTensor::f32([size[2], size[3]], half[..size[2] * size[3]].to_vec()).unwrap();
            let equal = scaled(prototypes.clone(), 0.0, 0.0);
            [op(x.clone(), prototypes), op(x.clone(), large), op(x.clone(), twice), op(x, equal)]
        });
        cases.collect()
    });
}

/// Equal cosines on all places of a small power of two, where sums and maxima of pairs meet in every order.
#[test]
fn the_first_of_equal_prototypes_is_chosen() {
    let row = [3.0, -4.0, 0.5];
    for (n, equal) in [(4, vec![1, 2]), (4, vec![0, 3]), (9, vec![3, 4, 8]), (70, vec![65, 66]), (70, vec![5, 69])] {
        let prototypes = (0..n).flat_map(|i| if equal.contains(&i) { row } else { row.map(|v| -v) }).collect();
        let op = Op::Choose {
            values: HostTensor::f32([2, 3, n], (0..6 * n).map(|i| i as f32).collect()).unwrap(),
            x: HostTensor::f32([2, 3, 3], row.repeat(6)).unwrap(),
            prototypes: HostTensor::f32([n, 3], prototypes).unwrap(),
        };
        let expected: Vec<f32> = (0..6).map(|token| (token * n + equal[0]) as f32).collect();
        for executor in others().into_iter().chain([reference()]) {
            assert_eq!(executor.run(&op), expected, "{} of {n}, {equal:?}", executor.name);
        }
    }
}

#[test]
fn top_rows() {
    check("top rows", 0.0, |generator| {
        // Batch, tokens, rows, channels.
        let sizes = [[1, 1, 1, 1], [3, 5, 1, 7], [3, 6, 3, 130], [1, 9, 1099, 5], [3, 37, 65, 48], [2, 300, 7, 384]];
        let cases = sizes.into_iter().flat_map(|size| {
            let [_, x, rows] = choice(generator, size);
            // Every row of the second half is one of the first; and all are equal.
            let half = rows.to_f32()[..size[2].div_ceil(2) * size[3]].repeat(2);
            let twice = HostTensor::f32([size[2], size[3]], half[..size[2] * size[3]].to_vec()).unwrap();
            let equal = scaled(rows.clone(), 0.0, 0.0);
            let ks = [1, size[2].div_ceil(3), size[2] + 1];
            let of = [rows, twice, equal];
            of.into_iter()
                .flat_map(move |rows| ks.map(|k| Op::TopRows { x: x.clone(), rows: rows.clone(), k }))
                .collect::<Vec<_>>()
        });
        cases.collect()
    });
}

/// Rows of a bank in every type that a model stores.
fn stored(rows: &HostTensor) -> Vec<HostTensor> {
    let rounded = [Format::F16, Format::Int8, Format::Int4].map(|to| round_tensor("rows", rows, to).unwrap());
    [rows.clone()].into_iter().chain(rounded).collect()
}

#[test]
fn nearest_around() {
    check("nearest row around", 1.0e-6, |generator| {
        // Batch, tokens before the first patch, grid, channels, photos, first row, rows, reach.
        let sizes = [
            [1, 0, 1, 1, 1, 0, 1, 0],
            [2, 3, 2, 7, 3, 0, 12, 0],
            [3, 1, 5, 130, 4, 13, 61, 1],
            [1, 5, 7, 64, 3, 49, 49, 2],
            [2, 1, 3, 33, 40, 7, 350, 1],
            [1, 0, 4, 384, 9, 0, 144, 100],
        ];
        let mut cases = Vec::new();
        for [batch, prefix, grid, channels, photos, first, n, reach] in sizes {
            let tokens = prefix + grid * grid;
            let places = Places { grid, reach, first };
            let x = Reference.upload(&random(generator, &[batch, tokens, channels])).unwrap();
            let unit = Reference.normalize(&x).unwrap();
            let x = HostTensor::f32([batch, tokens, channels], unit.values.to_vec()).unwrap();
            let rows = Reference.upload(&random(generator, &[1, n, channels])).unwrap();
            let rows = HostTensor::f32([n, channels], Reference.normalize(&rows).unwrap().values.to_vec()).unwrap();
            // Some photos, all, and none.
            let some = scaled(random(generator, &[batch, photos]), 1.0, 0.0);
            let some = some.to_f32().iter().map(|&v| f32::from(u8::from(v > 0.0))).collect();
            let some = HostTensor::f32([batch, photos], some).unwrap();
            let all = scaled(some.clone(), 0.0, 1.0);
            let before = scaled(random(generator, &[batch, tokens]), 0.5, 0.7);
            for chosen in [some, all.clone(), scaled(all, 0.0, 0.0)] {
                for rows in stored(&rows) {
                    for so_far in [None, Some(before.clone())] {
                        let (x, rows, chosen) = (x.clone(), rows.clone(), chosen.clone());
                        cases.push(Op::NearestAround { x, rows, chosen, places, so_far });
                    }
                }
            }
        }
        cases
    });
}

/// Rows of all places in one piece or many, which begin anywhere.
#[test]
fn pieces_of_a_bank_give_what_the_whole_gives() {
    let (grid, photos, channels) = (3, 4, 5);
    let generator = &mut ChaCha8Rng::seed_from_u64(3);
    let (x, rows) = (random(generator, &[2, 10, channels]), random(generator, &[photos * grid * grid, channels]));
    let chosen = HostTensor::f32([2, photos], vec![1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]).unwrap();
    for executor in others().into_iter().chain([reference()]) {
        let run = |begin: usize, end: usize, so_far: Option<Vec<f32>>| {
            let piece = rows.to_f32()[begin * channels..end * channels].to_vec();
            executor.run(&Op::NearestAround {
                x: x.clone(),
                rows: HostTensor::f32([end - begin, channels], piece).unwrap(),
                chosen: chosen.clone(),
                places: Places { grid, reach: 1, first: begin },
                so_far: so_far.map(|found| HostTensor::f32([2, 10], found).unwrap()),
            })
        };
        let whole = run(0, 36, None);
        let pieces = [0, 1, 8, 20, 21, 36];
        let found = pieces.windows(2).fold(None, |so_far, piece| Some(run(piece[0], piece[1], so_far)));
        assert!(max_difference(&found.unwrap(), &whole) < 1e-5, "{}", executor.name);
        assert_eq!((whole[0], whole[10]), (2.0, 2.0), "{}: the class token has no place", executor.name);
    }
}

/// Both signs: a processor's own NaN is negative. ONNX does not say what becomes of it.
#[test]
fn what_is_no_number_stays_so() {
    let computing = others().into_iter().filter(|executor| !executor.name.starts_with("onnx"));
    let executors: Vec<_> = computing.chain([reference()]).collect();
    let is_spoilt = |op: &Op, expected: &dyn Fn(usize) -> bool, what: &str| {
        for executor in &executors {
            let found = executor.run(op);
            let differs = found.iter().enumerate().find(|&(i, value)| value.is_nan() != expected(i));
            assert_eq!(differs, None, "{what} on {}", executor.name);
        }
    };
    for (spoilt, n) in [(f32::NAN, 1), (-f32::NAN, 1), (f32::NAN, 150), (-f32::NAN, 150)] {
        // The value in the second row of [2, 3, n], first, in the middle or last.
        for at in [0, n / 2, n - 1] {
            let values = |fill: f32| {
                let mut values = vec![fill; 6 * n];
                values[n + at] = spoilt;
                HostTensor::f32([2, 3, n], values).unwrap()
            };
            let (what, second) = (format!("{spoilt:?} at {at} of {n}"), |i: usize| i == 1);
            let resumed = |found: Vec<f32>| Some(HostTensor::f32([2, 3], found).unwrap());
            for so_far in [None, resumed(vec![0.1; 6])] {
                for fill in [-0.5, 0.5] {
                    is_spoilt(&Op::Nearest { cosines: values(fill), so_far: so_far.clone() }, &second, &what);
                }
            }
            let cosines = HostTensor::f32([2, 3, n], vec![0.5; 6 * n]).unwrap();
            let so_far = resumed([[0.1, spoilt, 0.1], [0.9; 3]].concat());
            is_spoilt(&Op::Nearest { cosines: cosines.clone(), so_far }, &second, &what);
            is_spoilt(&Op::SquaredNorms { x: values(0.5), parts: 1 }, &second, &what);
            is_spoilt(&Op::Normalize(values(0.5)), &|i| i / n == 1, &what);

            // A class token spoils its photo, another token nothing, a prototype all photos. A value spoils itself, if it is chosen.
            let ones = HostTensor::f32([n, 3], vec![1.0; 3 * n]).unwrap();
            let tokens = |at: usize| {
                let mut tokens = vec![1.0; 18];
                tokens[at] = spoilt;
                HostTensor::f32([2, 3, 3], tokens).unwrap()
            };
            let class = Op::Choose { values: cosines.clone(), x: tokens(10), prototypes: ones.clone() };
            is_spoilt(&class, &|i| i >= 3, &what);
            let other = Op::Choose { values: cosines.clone(), x: tokens(13), prototypes: ones.clone() };
            is_spoilt(&other, &|_| false, &what);
            let mut prototypes = ones.to_f32().to_vec();
            prototypes[3 * at + 1] = spoilt;
            let prototypes = HostTensor::f32([n, 3], prototypes).unwrap();
            let x = HostTensor::f32([2, 3, 3], vec![1.0; 18]).unwrap();
            is_spoilt(&Op::Choose { values: cosines, x: x.clone(), prototypes }, &|_| true, &what);
            is_spoilt(&Op::Choose { values: values(0.5), x, prototypes: ones.clone() }, &|i| i == 1 && at == 0, &what);

            let top = |x: HostTensor, rows: HostTensor| Op::TopRows { x, rows, k: 2 };
            is_spoilt(&top(tokens(10), ones.clone()), &|i| i >= n, &what);
            is_spoilt(&top(tokens(13), ones.clone()), &|_| false, &what);
            let mut rows = ones.to_f32().to_vec();
            rows[3 * at + 2] = spoilt;
            is_spoilt(&top(tokens(17), HostTensor::f32([n, 3], rows).unwrap()), &|_| true, &what);
        }
    }
    for spoilt in [f32::NAN, -f32::NAN] {
        // A class token and two by two patches; rows of two photos. What is not compared spoils nothing.
        let around = |token: Option<usize>, row: Option<usize>, chosen: [f32; 2], before: Option<usize>| {
            let with = |shape: &[usize], at: Option<usize>| {
                let mut values = vec![0.5; shape.iter().product()];
                at.iter().for_each(|&at| values[at] = spoilt);
                HostTensor::f32(shape, values).unwrap()
            };
            Op::NearestAround {
                x: with(&[1, 5, 3], token.map(|token| 3 * token + 1)),
                rows: with(&[8, 3], row.map(|row| 3 * row + 2)),
                chosen: HostTensor::f32([1, 2], chosen.to_vec()).unwrap(),
                places: Places { grid: 2, reach: 0, first: 0 },
                so_far: Some(with(&[1, 5], before)),
            }
        };
        let what = format!("{spoilt:?} around a place");
        is_spoilt(&around(Some(2), None, [1.0, 1.0], None), &|i| i == 2, &what);
        is_spoilt(&around(Some(0), None, [1.0, 1.0], None), &|_| false, &what);
        is_spoilt(&around(None, Some(5), [0.0, 1.0], None), &|i| i == 2, &what);
        is_spoilt(&around(None, Some(5), [1.0, 0.0], None), &|_| false, &what);
        is_spoilt(&around(None, None, [spoilt, 0.0], None), &|i| i > 0, &what);
        is_spoilt(&around(None, None, [1.0, 0.0], Some(3)), &|i| i == 3, &what);
        is_spoilt(&around(None, None, [0.0, 0.0], Some(0)), &|i| i == 0, &what);
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    fn refuses<O: Ops>(name: &str, ops: &O) {
        let up =
            |shape: &[usize]| ops.upload(&HostTensor::f32(shape, vec![0.5; shape.iter().product()]).unwrap()).unwrap();
        let check = |outcome: dinomaly_core::Result<O::Tensor>, why: &str| {
            let reason = outcome.err().unwrap_or_else(|| panic!("{name} should refuse: {why}")).to_string();
            assert!(reason.contains(why), "{name}: {reason:?} does not say {why:?}");
        };
        let (x, none, matrix) = (up(&[2, 3, 6]), up(&[2, 3, 0]), up(&[3, 6]));
        assert!(ops.normalize(&matrix).is_err(), "{name}");
        check(ops.squared_norms(&x, 4), "6 channels cannot be split into 4 parts");
        check(ops.squared_norms(&x, 0), "6 channels cannot be split into 0 parts");
        assert!(ops.squared_norms(&matrix, 1).is_err(), "{name}");
        check(ops.nearest(&matrix, None), "cosines of shape [3, 6] are not those of tokens with the rows of a bank");
        check(ops.nearest(&none, None), "cosines of shape [2, 3, 0]");
        check(ops.nearest(&x, Some(&matrix)), "distances so far: expected shape [2, 3], found [3, 6]");
        let fitting = [[2, 3, 5].as_slice(), &[2, 3, 6], &[5, 6]].map(up);
        assert!(ops.choose(&fitting[0], &fitting[1], &fitting[2]).is_ok(), "{name}");
        for [values, x, prototypes] in [
            [&[2, 3, 5], [2, 4, 6].as_slice(), &[5, 6]],
            [&[1, 3, 5], &[2, 3, 6], &[5, 6]],
            [&[2, 3, 4], &[2, 3, 6], &[5, 6]],
            [&[2, 3, 5], &[2, 3, 7], &[5, 6]],
            [&[2, 3, 0], &[2, 3, 6], &[0, 6]],
            [&[2, 0, 5], &[2, 0, 6], &[5, 6]],
            [&[2, 5], &[2, 3, 6], &[5, 6]],
        ] {
            let why = format!("values of shape {values:?} do not fit tokens of shape {x:?} and prototypes of shape");
            check(ops.choose(&up(values), &up(x), &up(prototypes)), &why);
        }
        for [x, rows] in
            [[&[2, 3, 6], [5, 7].as_slice()], [&[2, 0, 6], &[5, 6]], [&[2, 6], &[5, 6]], [&[2, 3, 6], &[0, 6]]]
        {
            check(ops.top_rows(&up(x), &up(rows), 1), &format!("tokens of shape {x:?} do not fit rows of shape"));
        }
        let rows = |shape: &[usize]| {
            ops.upload_rows(&HostTensor::f32(shape, vec![0.5; shape.iter().product()]).unwrap()).unwrap()
        };
        let (x, chosen) = (up(&[2, 5, 6]), up(&[2, 3]));
        let at = |first: usize| Places { grid: 2, reach: 1, first };
        assert!(ops.nearest_around(&x, &rows(&[5, 6]), &chosen, at(7), None).is_ok(), "{name}");
        check(
            ops.nearest_around(&x, &rows(&[5, 7]), &chosen, at(0), None),
            "tokens of shape [2, 5, 6] do not fit rows of shape [5, 7]",
        );
        check(ops.nearest_around(&x, &rows(&[5, 6]), &up(&[1, 3]), at(0), None), "chosen photos of shape [1, 3]");
        check(ops.nearest_around(&up(&[2, 3, 6]), &rows(&[5, 6]), &chosen, at(0), None), "a grid of 2 × 2");
        check(
            ops.nearest_around(&x, &rows(&[5, 6]), &chosen, at(8), None),
            "rows 8 to 12 are beyond 3 photos of 2 × 2 patches",
        );
        check(
            ops.nearest_around(&x, &rows(&[5, 6]), &chosen, at(0), Some(&chosen)),
            "distances so far: expected shape [2, 5], found [2, 3]",
        );
    }
    refuses("reference", &Reference);
    refuses("processor", &Processor::new(ProcessorPrecision::F32));
    refuses("candle", &Candle::infer(Device::Cpu));
    refuses("candle, training", &Candle::train(Device::Cpu, &no_noise));
    refuses("candle, tape", &Taped::new(Candle::train(Device::Cpu, &no_noise)));
    if let Some(gpu) = webgpu() {
        refuses("webgpu", &gpu);
    }
}
