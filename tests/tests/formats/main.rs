//! Files of others and our own: read as they are meant, and refused by name where something is wrong.

mod backbones; // checkpoints of DINO, DINOv2 and timm ViTs in every naming, whole and damaged
mod bundle; // model folders: written, read, replaced, quantized, damaged, and without room on the disk
mod extremes; // every number of a valid file at its extremes
mod foundations; // checkpoints whose blocks differ from DINOv2's, on every executor
mod libraries; // checkpoints that timm, transformers and anomalib wrote, against what they compute
mod photos; // photos of every kind against Pillow, and cut short
