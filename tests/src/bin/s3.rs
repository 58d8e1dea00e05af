//! A server of buckets for experiments: `s3 FOLDER 127.0.0.1:PORT`. Each folder there is a bucket; key and secret are `owner`.

use std::path::PathBuf;

use clap::Parser;
use dinomaly_tests::s3;

#[derive(Parser)]
struct Args {
    /// Folder whose folders are the buckets
    folder: PathBuf,
    /// Address to listen on
    address: String,
}

fn main() {
    let Args { folder, address } = Args::parse();
    let server = s3::serve(&folder, &address);
    server.let_read(usize::MAX >> 4);
    println!("{}", server.url);
    loop {
        std::thread::park();
    }
}
