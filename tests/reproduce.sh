#!/bin/sh
# Every table of the paper on tiny generated data sets of the true layouts, with encoders of random weights and two iterations:
# `dinomaly reproduce` must yield each with its published column filled. It takes some minutes.
set -eu
cd "$(dirname "$0")/.."
exec cargo test --profile verify -p dinomaly --test cli reproduce::every_plan -- --ignored --nocapture
