//! The command line as a user meets it: the whole path on small generated photos, crashes, interrupts, and bad input.

mod ablate; // ablations: broken off, gone on with, and the numbers in their tables
mod attention; // pictures of where a decoder looks
mod bad_input; // bad input: one sentence, and nothing half-written
mod broken_off; // no test: runs that end before their time, and go on
mod cuda; // `--device cuda` and `auto` where there is no NVIDIA GPU
mod data; // data sets in other layouts than the generator's, and `data check`
mod drift; // `detect --drift`: scores kept over runs, and a word when they have moved away
mod embedded_encoder; // training with no `--backbone`: the encoder that is part of the program
mod events; // event files of a training, read back as TensorBoard reads them
mod export; // `export`: every kind of model as ONNX, run by another project's runtime
mod few_shot; // `fewshot`: a model without training, in every command that takes models
mod foreign_folders; // `--out` where others' files lie: nothing in them changes
mod gpu; // `--device gpu`, and a sentence where there is none
mod guides; // every command and option in the guides exists
mod hub; // `backbone` against a server that speaks the hub's protocol, well and badly
mod hub_server; // no test: a hub that keeps repositories, and does wrong what it is told
mod other_layouts; // a table, KolektorSDD and MVTec AD 2: intervals of metrics, and files to submit
mod output; // standard output that is closed or full, and names that it shows
mod path; // photos → model → metrics, scores, heatmaps, int8, in the commands of the README
mod publish; // `publish`, and models on the hub in every command that takes models
mod quantize; // `quantize` in every format, with and without photos
mod regions; // `detect --regions`: places of defects, from pixel thresholds that every way to a model sets
mod released; // models and sites that earlier versions wrote
mod replicas; // `--devices`: several devices train as one does
mod reproduce; // `reproduce`: plans of the paper with random encoders, and what is missing; `verify-model`
mod resume; // crashes and interrupts lose nothing, and change nothing
#[path = "../src/s3.rs"]
mod s3; // no test: a server of buckets
mod score; // `score`: buckets and folders, shards that are killed and started again, what is refused
mod shell; // completions and manual pages
mod site_encoder; // `site --encoder`: what visitors make detectors with
mod tiles; // `--tile-size`: small defects in large photos, in every command that takes models
mod unknown; // photos of other products, and the class that each photo is nearest to
mod unusual_data; // photos and masks as people have them: said, or read in a stated way
mod workshop; // no test: a folder with photos, a small encoder and the program
