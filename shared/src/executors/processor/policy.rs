//! Which precision a model is run in: the fastest that its self-test accepts on this processor.

use super::{Precision, Processor};
use crate::Result;
use crate::bundle::{Model, SelfTest};
use crate::detector::Detector;
use crate::tensor::Data;

impl Processor {
    /// Takes a model in int8 where its weights are and its self-test accepts it, else in f32, which the self-test must accept.
    /// `uploaded` is told when weights are packed, each time.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the self-test fails in f32 too; [`Detector::new`]'s own.
    pub async fn open_model(model: &Model, uploaded: &mut dyn FnMut()) -> Result<Detector<Self>> {
        let int8 = model.weights.0.values().any(|weight| matches!(weight.data, Data::Int8 { .. }));
        if let Some(self_test) = model.self_test.as_ref().filter(|_| int8) {
            let detector = Detector::new(Self::new(Precision::Int8), model)?;
            uploaded();
            if detector.verify("processor", self_test, SelfTest::ROUNDED).await.is_ok() {
                return Ok(detector);
            }
        }
        let detector = Detector::new(Self::new(Precision::F32), model)?;
        uploaded();
        if let Some(self_test) = &model.self_test {
            detector.verify("processor", self_test, 0.0).await?;
        }
        Ok(detector)
    }
}
