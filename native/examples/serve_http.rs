//! Serves a model over HTTP: POST a photo, get its score as JSON.
//!
//! `cargo run --release --example serve_http -- MODEL`, then
//! `curl --data-binary @photo.jpg http://127.0.0.1:8000`

use std::env;
use std::path::Path;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use dinomaly::inference::PhotoDetector;
use dinomaly::model_dir;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// Largest photo in bytes.
const LARGEST: usize = 64 << 20;

/// A photo's file, and where its verdict goes.
type Request = (Bytes, oneshot::Sender<Result<String>>);

fn main() -> Result<()> {
    let folder = env::args().nth(1).context("usage: serve_http MODEL")?;
    let model = model_dir::read(Path::new(&folder))?;
    let detector = PhotoDetector::new(&model)?;

    // A detector stays on its thread, this one, and computes a photo on all cores. Others receive photos and send answers.
    let (sender, mut requests) = mpsc::channel::<Request>(16);
    let router = Router::new().route("/", post(answer)).layer(DefaultBodyLimit::max(LARGEST)).with_state(sender);
    let runtime = Runtime::new()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:8000"))?;
    println!("POST photos to http://{}", listener.local_addr()?);
    runtime.spawn(async { axum::serve(listener, router).await });

    let look = |file: &[u8]| -> Result<String> {
        let photo = detector.detector().decode("the photo", file)?;
        let detection = &pollster::block_on(detector.detector().detect(&[photo]))?[0];
        let (score, product) = (detection.score, model.calibration.recognise(&detection.descriptor)?);
        let threshold = model.calibration.of_class(product.map(|product| product.nearest)).threshold;
        let unknown = product.is_some_and(|product| product.unknown);
        let defective = score > threshold || unknown;
        Ok(json!({ "score": score, "threshold": threshold, "defective": defective, "unknown": unknown }).to_string())
    };
    while let Some((file, verdict)) = requests.blocking_recv() {
        // The client may be gone.
        let _ = verdict.send(look(&file));
    }
    Ok(())
}

async fn answer(State(detector): State<mpsc::Sender<Request>>, file: Bytes) -> Result<String, (StatusCode, String)> {
    let gone = || (StatusCode::INTERNAL_SERVER_ERROR, "the detector is gone".to_owned());
    let (sender, verdict) = oneshot::channel();
    detector.send((file, sender)).await.map_err(|_| gone())?;
    let verdict = verdict.await.map_err(|_| gone())?;
    verdict.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error:#}\n")))
}
