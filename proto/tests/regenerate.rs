//! The checked-in code is what the `.proto` files say. `UPDATE=1 cargo test -p gpushared-proto` writes it anew.

use std::fs;
use std::path::Path;

#[test]
fn generated_code_matches_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("temporary directory");
    for proto in [
        "k8s/deviceplugin/v1beta1/api.proto",
        "k8s/podresources/v1/api.proto",
        "k8s/cri/runtime/v1/api.proto",
    ] {
        let path = root.join(proto);
        let include = path.parent().expect("a proto file lies in a folder");
        let files = protox::compile([&path], [include]).expect("the proto file parses");
        tonic_prost_build::configure()
            .out_dir(out.path())
            .build_client(true)
            .build_server(true)
            .compile_fds(files)
            .expect("code is generated");
    }
    for name in ["v1beta1.rs", "v1.rs", "runtime.v1.rs"] {
        let fresh = fs::read_to_string(out.path().join(name)).expect("generated file");
        let checked_in = root.join("src/gen").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&checked_in, &fresh).expect("write src/gen");
        }
        let kept = fs::read_to_string(&checked_in).expect("src/gen file");
        assert!(
            kept == fresh,
            "src/gen/{name} differs from its .proto: run UPDATE=1 cargo test -p gpushared-proto"
        );
    }
}
