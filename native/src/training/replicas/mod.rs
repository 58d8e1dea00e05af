//! Data-parallel training: replicas of a run, each on its device and with its part of every batch.
//!
//! A step has two collective operations: distances are gathered, because hard mining needs the k-th largest of the whole batch, and
//! gradients are summed. Then every replica takes the same step with the same bits. If a replica fails or finishes, all others end
//! as well, and none waits for it.

#[cfg(any(feature = "cuda", test))]
mod connection;
mod meeting;
#[cfg(feature = "cuda")]
pub mod nccl;

use std::iter::once;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, Builder};

use anyhow::{Context, Error, Result, bail};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

use self::meeting::{Meeting, Member};
use crate::system::device::name;

/// Collective operations. All replicas must call the same operations in the same order.
pub trait Collective {
    /// Index of this replica.
    fn rank(&self) -> usize;

    /// How many there are.
    fn replicas(&self) -> usize;

    /// The sum of all replicas' tensors, which have the same shape and are f32. All get the same bits.
    ///
    /// # Errors
    /// If another replica has failed, or the device does.
    fn sum(&self, values: &Tensor) -> candle_core::Result<Tensor>;

    /// All replicas' tensors, each `[count]` in f32, concatenated in the replicas' order.
    ///
    /// # Errors
    /// As [`Collective::sum`].
    fn gather(&self, values: &Tensor) -> candle_core::Result<Tensor>;

    /// Whether any replica was asked to stop.
    ///
    /// # Errors
    /// As [`Collective::sum`].
    fn any(&self, asked: bool) -> candle_core::Result<bool>;

    /// Leaves at the end. A replica that is dropped without this call has failed, and pending operations of the others are broken
    /// off.
    ///
    /// # Errors
    /// If a pending operation fails.
    fn close(&self) -> candle_core::Result<()>;
}

/// A replica's handle for collective operations.
pub type Team = Box<dyn Collective + Send>;

/// Stack size of the main thread, because candle walks its graphs recursively.
const STACK: usize = 8 << 20;

/// Devices that train one model together.
pub struct Replicas {
    meeting: Arc<Meeting>,
    places: Vec<(Device, Team)>,
}

impl Replicas {
    /// `count` replicas that share the processor.
    pub fn on_processor(count: usize) -> Self {
        let (meeting, members) = Meeting::of(count);
        let places = members.into_iter().map(|member| (Device::Cpu, Box::new(Threads(member)) as Team)).collect();
        Self { meeting, places }
    }

    /// A replica on each of these NVIDIA GPUs.
    ///
    /// # Errors
    /// If a GPU cannot be opened, or NCCL, which connects them, is missing or fails.
    pub fn on_gpus(numbers: &[usize]) -> Result<Self> {
        #[cfg(feature = "cuda")]
        return nccl::replicas(numbers);
        #[cfg(not(feature = "cuda"))]
        Err(crate::system::device::open_cuda(numbers[0]).expect_err("a GPU in a program without CUDA"))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// The first replica's device.
    pub fn first(&self) -> &Device {
        &self.places[0].0
    }

    /// Runs `replica` for each: the first on this thread, the others on new threads. Returns the first one's result.
    ///
    /// # Errors
    /// That of the replica that failed first; the others then end.
    ///
    /// # Panics
    /// If a replica panics.
    pub fn each<T>(self, replica: impl Fn(Device, Team) -> Result<T> + Sync) -> Result<T> {
        let Self { meeting, places } = self;
        let mut places = places.into_iter();
        let (device, team) = places.next().expect("at least one replica");
        let replica = |device: Device, team: Team| {
            let place = name(&device);
            replica(device, team).with_context(|| format!("on {place}"))
        };
        let (first, others) = thread::scope(|scope| -> Result<_> {
            let begin = |(device, team)| {
                let builder = Builder::new().stack_size(STACK);
                builder.spawn_scoped(scope, || replica(device, team).map(drop))
            };
            let others = places.map(begin).collect::<std::io::Result<Vec<_>>>()?;
            let first = replica(device, team);
            let others = others.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok((first, others.collect::<Vec<_>>()))
        })?;
        let (value, error) = match first {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        // Later errors may only follow from the first.
        let mut errors: Vec<Option<Error>> = once(error).chain(others.into_iter().map(Result::err)).collect();
        match meeting.left().into_iter().find_map(|rank| errors[rank].take()) {
            Some(error) => Err(error),
            None => Ok(value.expect("it had no error")),
        }
    }
}

/// Replicas on the processor, which exchange tensors in memory.
struct Threads(Member);

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn replicas(&self) -> usize {
        self.0.replicas()
    }

    fn sum(&self, values: &Tensor) -> candle_core::Result<Tensor> {
        let mut parts = self.0.meet(values.detach())?.into_iter();
        let first = parts.next().expect("at least this one");
        // Summed in the replicas' order, so that all get the same bits.
        parts.try_fold(first, |sum, part| sum + part)
    }

    fn gather(&self, values: &Tensor) -> candle_core::Result<Tensor> {
        Tensor::cat(&self.0.meet(values.detach())?, 0)
    }

    fn any(&self, asked: bool) -> candle_core::Result<bool> {
        Ok(self.0.meet(asked)?.contains(&true))
    }

    fn close(&self) -> candle_core::Result<()> {
        // No operation is pending on the processor.
        Ok(())
    }
}

/// Loss and gradients of a whole batch, from each replica's share in both.
///
/// # Errors
/// As [`Collective::sum`].
pub fn summed(
    team: &dyn Collective,
    variables: &[(String, Var)],
    loss: &Tensor,
    mut gradients: GradStore,
) -> candle_core::Result<(Tensor, GradStore)> {
    let trained: Vec<&Var> = variables.iter().map(|(_, var)| var).filter(|var| gradients.get(var).is_some()).collect();
    let flat = |gradient: &Tensor| gradient.detach().to_dtype(DType::F32)?.flatten_all();
    let mut parts =
        trained.iter().filter_map(|var| gradients.get(var)).map(flat).collect::<candle_core::Result<Vec<_>>>()?;
    parts.push(flat(loss)?);
    // One operation for all tensors, because each operation has its own latency.
    let sums = team.sum(&Tensor::cat(&parts, 0)?)?;
    let mut begin = 0;
    for var in trained {
        gradients.insert(var, sums.narrow(0, begin, var.elem_count())?.reshape(var.dims())?);
        begin += var.elem_count();
    }
    Ok((sums.get(begin)?, gradients))
}

/// Checks that all replicas have the same parameters.
///
/// # Errors
/// If they differ, or as [`Collective::gather`].
pub fn check_equal(team: &dyn Collective, variables: &[(String, Var)]) -> Result<()> {
    let sums = variables.iter().map(|(_, var)| var.detach().sum_all()).collect::<candle_core::Result<Vec<_>>>()?;
    let sums = Tensor::stack(&sums, 0)?;
    let bits = |sums: &[f32]| sums.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>();
    let of_all = team.gather(&sums)?.to_vec1::<f32>()?;
    // If a replica has failed meanwhile, the values come from an operation that was broken off.
    team.any(false)?;
    let mut replicas = of_all.chunks(variables.len()).map(bits);
    let first = replicas.next();
    if let Some(other) = replicas.position(|other| Some(other) != first) {
        bail!(
            "replica {} no longer has the parameters of the first: its GPU or the connection is faulty; resume from the last checkpoint with one --device",
            other + 1
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dinomaly_core::model::config::{EncoderConfig, ModelConfig};

    use super::*;
    use crate::features::Features;
    use crate::training::checkpoint;
    use crate::training::head::TrainableHead;
    use crate::training::schedule::Schedule;
    use crate::training::trainer::{Trainer, TrainingSettings};

    const PHOTOS: usize = 4;

    /// A small model with every kind of noise and half of the points easy from the first step on.
    fn trainer(team: Option<Team>) -> Trainer {
        let encoder = EncoderConfig { hidden_size: 16, intermediate_size: 32, ..EncoderConfig::tiny() };
        let config = ModelConfig {
            bottleneck_dropout: 0.2,
            feature_jitter: 0.5,
            patch_masking: 0.1,
            ..ModelConfig::published(encoder).unwrap()
        };
        let schedule = Schedule { warmup: 0, mining_rate: 0.5, mining_warmup: 0, ..Schedule::official(40) };
        let settings = TrainingSettings { seed: 3, ..TrainingSettings::official(PHOTOS, schedule) };
        let head = TrainableHead::fresh(&config, 3, &Device::Cpu).unwrap();
        let mut trainer = Trainer::new(config, settings, head, Device::Cpu).unwrap();
        trainer.team = team;
        trainer
    }

    /// What the trainer sees of an iteration's batch: 3 × 3 patches and the class token of each photo.
    fn features(trainer: &Trainer) -> Features {
        let (rank, replicas) = trainer.team.as_ref().map_or((0, 1), |team| (team.rank(), team.replicas()));
        let share = PHOTOS / replicas;
        let tensor = |seed: usize| {
            let value =
                |i: usize| ((i * i * 31 + i * 17 + trainer.iteration * 7919 + seed * 101) % 997) as f32 / 500.0 - 1.0;
            let whole = Tensor::from_iter((0..PHOTOS * 160).map(value), &Device::Cpu).unwrap();
            whole.reshape((PHOTOS, 10, 16)).unwrap().narrow(0, rank * share, share).unwrap()
        };
        Features { groups: vec![tensor(1), tensor(2)], fused: tensor(3) }
    }

    /// Trains up to an iteration, from a checkpoint and to one. Returns the losses and all weights.
    fn train(team: Option<Team>, until: usize, from: Option<&Path>, to: Option<&Path>) -> (Vec<f64>, Vec<Vec<f32>>) {
        let mut trainer = trainer(team);
        let mut losses: Vec<f64> = Vec::new();
        if let Some(path) = from {
            losses = checkpoint::read(path).unwrap().unwrap();
            checkpoint::restore(path, &mut trainer.optimizer, losses.len()).unwrap();
            trainer.iteration = losses.len();
        }
        while trainer.iteration < until {
            losses.push(trainer.step(&features(&trainer)).unwrap().loss);
        }
        if let Some(team) = &trainer.team {
            check_equal(team.as_ref(), &trainer.head.variables).unwrap();
        }
        if let Some(path) = to.filter(|_| trainer.team.as_ref().is_none_or(|team| team.rank() == 0)) {
            checkpoint::save(path, &trainer.optimizer, &losses).unwrap();
        }
        let values = |(_, var): &(String, Var)| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (losses, trainer.head.variables.iter().map(values).collect())
    }

    fn together(replicas: usize, until: usize, from: Option<&Path>, to: Option<&Path>) -> (Vec<f64>, Vec<Vec<f32>>) {
        Replicas::on_processor(replicas).each(|_, team| Ok(train(Some(team), until, from, to))).unwrap()
    }

    /// Root mean square of the differences.
    fn apart(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
        let (a, b) = (a.concat(), b.concat());
        let squares: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        (squares / a.len() as f64).sqrt()
    }

    #[test]
    fn replicas_train_as_one_device_does_and_go_on_in_the_same_bits() {
        let (begin, (losses, weights)) = (train(None, 0, None, None).1, train(None, 20, None, None));
        for replicas in [2, 4] {
            let (of_replicas, of_weights) = together(replicas, 20, None, None);
            // Sums in another order: measured are 1.6e-7 of a loss and 2e-5 of what the weights moved.
            for (step, (found, expected)) in of_replicas.iter().zip(&losses).enumerate() {
                assert!((found - expected).abs() < 1e-6 * expected, "{replicas}, step {step}: {found}, {expected}");
            }
            let (apart, moved) = (apart(&of_weights, &weights), apart(&begin, &weights));
            assert!(moved > 1e-3 && apart < 1e-4 * moved, "{replicas}: {apart:e} of {moved:e}");
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("checkpoint.safetensors");
            together(replicas, 10, None, Some(&path));
            assert!(together(replicas, 20, Some(&path), None) == (of_replicas, of_weights), "resumed");
        }
    }

    #[test]
    fn a_replica_that_fails_ends_the_run_with_its_reason() {
        for culprit in 0..3 {
            let outcome = Replicas::on_processor(3).each(|_, team| {
                for step in 0..5 {
                    if team.rank() == culprit && step == 3 {
                        bail!("photo {culprit} cannot be read");
                    }
                    team.any(false)?;
                }
                Ok(())
            });
            let error = format!("{:#}", outcome.unwrap_err());
            assert_eq!(error, format!("on the processor: photo {culprit} cannot be read"));
        }
        assert_eq!(Replicas::on_processor(3).each(|_, team| Ok(10 + team.rank())).unwrap(), 10);
    }

    #[test]
    fn all_stop_where_one_is_asked_to() {
        for asked in 0..3 {
            let outcome = Replicas::on_processor(3).each(|_, team| {
                let heard = [team.any(team.rank() == asked)?, team.any(false)?];
                if heard == [true, false] { Ok(()) } else { bail!("{heard:?} heard by {}", team.rank()) }
            });
            outcome.unwrap();
        }
    }

    /// A replica on a GPU after another one has broken off its connection: gathered values stay unchanged.
    struct BrokenOff;

    impl Collective for BrokenOff {
        fn rank(&self) -> usize {
            0
        }

        fn replicas(&self) -> usize {
            2
        }

        fn sum(&self, values: &Tensor) -> candle_core::Result<Tensor> {
            values.zeros_like()
        }

        fn gather(&self, values: &Tensor) -> candle_core::Result<Tensor> {
            Tensor::zeros(2 * values.elem_count(), DType::F32, values.device())
        }

        fn any(&self, _asked: bool) -> candle_core::Result<bool> {
            candle_core::bail!("another replica of this run has ended")
        }

        fn close(&self) -> candle_core::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_broken_off_passes_for_no_equality() {
        let var = ("a".to_owned(), Var::new(&[1f32, 2.0], &Device::Cpu).unwrap());
        let error = check_equal(&BrokenOff, &[var]).unwrap_err().to_string();
        assert!(error.contains("another replica of this run has ended"), "{error}");
    }

    #[test]
    fn replicas_that_drift_apart_are_found() {
        let check = |differs: bool| {
            Replicas::on_processor(2).each(|_, team| {
                let last = if differs && team.rank() == 1 { 1.0 + f32::EPSILON } else { 1.0 };
                let var = |values: &[f32]| ("a".to_owned(), Var::new(values, &Device::Cpu).unwrap());
                check_equal(team.as_ref(), &[var(&[1.0, 2.0]), var(&[last])])
            })
        };
        check(false).unwrap();
        let error = format!("{:#}", check(true).unwrap_err());
        assert!(error.contains("replica 1 no longer has the parameters of the first"), "{error}");
    }
}
