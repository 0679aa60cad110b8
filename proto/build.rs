//! Compiles the protos with protoc: messages, services, the descriptor set, and validation from the same descriptors.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let mut protos = Vec::new();
    collect(Path::new("shopstream"), &mut protos)?;
    // The order of a directory listing is not the same everywhere; that of the descriptor set should be.
    protos.sort();

    // What the payment provider simulator speaks, and the nodes among themselves, is not the shop's API: no
    // reflection, no validation.
    let internal = ["shopstream/provider", "shopstream/node"];
    let (internal, protos): (Vec<_>, Vec<_>) =
        protos.into_iter().partition(|proto| internal.iter().any(|folder| proto.starts_with(folder)));
    let roots = [PathBuf::from("."), PathBuf::from("third_party")];
    tonic_prost_build::configure().bytes(".").compile_protos(&internal, &roots)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = out.join("shopstream.bin");
    let mut names = tonic_prost_build::Config::new();
    // The codec looks up the bounds of a message by its name.
    names.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::BoundedCodec")
        .file_descriptor_set_path(&descriptors)
        .compile_with_config(names, &protos, &roots)?;

    // From the bytes that protoc wrote: decoding and encoding them with prost-types would drop the rules, which are
    // custom options. A rule that could only be checked by the CEL interpreter at run time stops the build.
    prost_protovalidate_build::Builder::new()
        .file_descriptor_set_path(&descriptors)?
        .fail_on_runtime_only(true)
        .compile()?;
    stop_early(&out.join("validate_impl.rs"))?;

    println!("cargo:rerun-if-changed=shopstream");
    println!("cargo:rerun-if-changed=third_party");
    Ok(())
}

/// The generated rules go through every element of a list and keep a violation for each: here they leave off where an
/// answer would name no more of them. What is generated otherwise than we know it stops the build.
fn stop_early(validation: &Path) -> Result<(), Box<dyn Error>> {
    const LOOP: &str = ".iter().enumerate() {\n";
    let generated = fs::read_to_string(validation)?;
    let loops = generated.matches("for (").count();
    if loops == 0 || loops != generated.matches(LOOP).count() {
        return Err(
            "the generated validation has loops of another form: see `stop_early` in proto/build.rs".into()
        );
    }
    let stop = format!("{LOOP}            if violations.len() >= crate::VIOLATIONS_MAX {{ break; }}\n");
    fs::write(validation, generated.replace(LOOP, &stop))?;
    Ok(())
}

fn collect(folder: &Path, protos: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, protos)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            protos.push(path);
        }
    }
    Ok(())
}
