//! The commands as an operator or a test script uses them: the real binary, its exit codes, its output.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn gpusim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpusim"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command that must succeed; its output.
fn done(arguments: &[&str]) -> String {
    let output = gpusim(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a command that must fail; its exit code and its complaint.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = gpusim(arguments);
    (output.status.code().unwrap(), text(&output.stderr))
}

fn node(gpus: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node").to_str().unwrap().to_owned();
    done(&["init", &path, "--gpu", gpus, "--seed", "3"]);
    (dir, path)
}

fn show(dir: &str) -> Value {
    serde_json::from_str(&done(&["show", dir, "-o", "json"])).unwrap()
}

#[test]
fn a_node_is_made_of_the_gpus_asked_for() {
    let (_guard, dir) = node("h100-80gb:2,a30,t4");
    let shown = show(&dir);
    let names: Vec<_> = shown["gpus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gpu| &gpu["name"])
        .collect();
    let h100 = "NVIDIA H100 80GB HBM3";
    assert_eq!(names, [h100, h100, "NVIDIA A30", "Tesla T4"]);
    assert_eq!(shown["driver"], "570.124.06");
    assert!(done(&["show", &dir]).contains("NVIDIA A30"));
}

#[test]
fn the_same_seed_makes_the_same_node() {
    let ((_one, one), (_two, two)) = (node("h100-80gb:4"), node("h100-80gb:4"));
    assert_eq!(show(&one)["gpus"], show(&two)["gpus"]);
}

#[test]
fn instances_are_made_shown_and_destroyed() {
    let (_guard, dir) = node("h100-80gb");
    assert_eq!(done(&["mig", "enable", &dir, "--gpu", "0"]), "in effect\n");
    let made = done(&[
        "mig",
        "create",
        &dir,
        "--gpu",
        "0",
        "--profile",
        "1g.10gb",
        "--count",
        "3",
    ]);
    assert_eq!(made.lines().count(), 3);
    let at_4 = [
        "mig",
        "create",
        &dir,
        "--gpu",
        "0",
        "--profile",
        "9",
        "--start",
        "4",
    ];
    let (code, complaint) = refused(&at_4);
    assert_eq!(code, 1);
    assert!(
        complaint.contains("INSUFFICIENT_RESOURCES (23)"),
        "{complaint}"
    );
    assert_eq!(complaint.lines().count(), 1);
    let shown = show(&dir);
    let gis = shown["gpus"][0]["gis"].as_array().unwrap();
    let starts: Vec<_> = gis.iter().map(|gi| gi["start"].as_u64().unwrap()).collect();
    assert_eq!(starts, [6, 4, 5]);
    let uuid = gis[0]["cis"][0]["uuid"].as_str().unwrap();
    assert!(made.contains(uuid));
    let first = gis[0]["id"].to_string();
    done(&["mig", "destroy", &dir, "--gpu", "0", "--gi", &first]);
    done(&["mig", "destroy", &dir, "--gpu", "0", "--all"]);
    assert_eq!(show(&dir)["gpus"][0]["gis"], Value::Array(Vec::new()));
    assert_eq!(done(&["mig", "disable", &dir, "--gpu", "0"]), "in effect\n");
}

#[test]
fn an_ampere_mode_waits_for_the_reset() {
    let (_guard, dir) = node("a100-40gb");
    let says = done(&["mig", "enable", &dir, "--gpu", "0"]);
    assert_eq!(says, "pending: RESET_REQUIRED (16)\n");
    done(&["reset", &dir, "--gpu", "0"]);
    assert_eq!(show(&dir)["gpus"][0]["mig"]["current"], 1);
    done(&["mig", "create", &dir, "--gpu", "0", "--profile", "1g.10gb"]);
    done(&["mig", "create", &dir, "--gpu", "0", "--profile", "3g.20gb"]);
    done(&["reboot", &dir]);
    let shown = show(&dir);
    assert_eq!(shown["gpus"][0]["mig"]["current"], 1);
    assert_eq!(shown["gpus"][0]["gis"], Value::Array(Vec::new()));
    assert_eq!(shown["boots"], 1);
}

#[test]
fn a_gpu_breaks_and_heals() {
    let (_guard, dir) = node("h100-80gb:2");
    done(&["xid", &dir, "--gpu", "1", "--xid", "31"]);
    done(&["ecc", &dir, "--gpu", "1", "--volatile-uncorrected", "3"]);
    done(&["lose", &dir, "--gpu", "1"]);
    done(&["unplug", &dir, "--gpu", "0"]);
    done(&[
        "fault",
        &dir,
        "--function",
        "nvmlDeviceGetName",
        "--code",
        "19",
        "--count",
        "2",
    ]);
    done(&["driver", &dir, "--mismatch"]);
    let shown = show(&dir);
    assert_eq!(shown["gpus"][1]["health"], serde_json::json!(["lost"]));
    assert_eq!(shown["gpus"][0]["health"], serde_json::json!(["unplugged"]));
    assert_eq!(shown["gpus"][1]["ecc_volatile_uncorrected"], 3);
    assert_eq!(shown["faults"][0]["code"], 19);
    assert_eq!(shown["driver_state"], "mismatch");
    assert_eq!(shown["events"], 3);
    done(&["heal", &dir]);
    let shown = show(&dir);
    let nothing = Value::Array(Vec::new());
    assert_eq!(
        (&shown["gpus"][1]["health"], &shown["faults"]),
        (&nothing, &nothing)
    );
    assert_eq!(shown["driver_state"], "loaded");
}

#[test]
fn a_client_holds_its_memory_while_its_program_runs() {
    let (_guard, dir) = node("t4");
    let client = [
        "client", &dir, "--gpu", "0", "--memory", "2GiB", "--busy", "50", "--", "cat",
    ];
    let mut cat = Command::new(env!("CARGO_BIN_EXE_gpusim"))
        .args(client)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Registered before the program starts, so its first answer means that the client is there.
    std::io::Write::write_all(cat.stdin.as_mut().unwrap(), b"hello\n").unwrap();
    let mut line = String::new();
    BufReader::new(cat.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "hello\n");
    let shown = show(&dir);
    assert_eq!(shown["gpus"][0]["memory_used"], 2u64 << 30);
    assert_eq!(shown["gpus"][0]["busy_permille"], 500);
    assert_eq!(shown["clients"][0]["pid"], cat.id());
    assert_eq!(refused(&["reset", &dir, "--gpu", "0"]).0, 1);
    drop(cat.stdin.take());
    assert!(cat.wait().unwrap().success());
    assert_eq!(show(&dir)["clients"], Value::Array(Vec::new()));
    done(&["reset", &dir, "--gpu", "0"]);
}

#[test]
fn libraries_are_installed_from_where_they_were_built() {
    let built = tempfile::tempdir().unwrap();
    for name in ["libnvidia_ml.so", "libcuda.so"] {
        fs::write(built.path().join(name), name).unwrap();
    }
    let (_guard, dir) = node("t4");
    done(&["libs", &dir, "--lib-dir", built.path().to_str().unwrap()]);
    let installed = fs::read_to_string(Path::new(&dir).join("lib/libnvidia-ml.so.1")).unwrap();
    assert_eq!(installed, "libnvidia_ml.so");
    let empty = tempfile::tempdir().unwrap();
    let (code, complaint) = refused(&["libs", &dir, "--lib-dir", empty.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(complaint.contains("libnvidia_ml.so"), "{complaint}");
}

#[test]
fn wrong_command_lines_exit_with_64_and_everything_else_with_1() {
    let (_guard, dir) = node("t4");
    for wrong in [
        &["nonsense"][..],
        &["show"],
        &["init", &dir, "--gpu", "voodoo"],
        &["init", &dir, "--gpu", "t4", "--driver", "latest"],
        &["mig", "destroy", &dir, "--gpu", "0"],
        &["driver", &dir],
        &["driver", &dir, "--load", "--unload"],
        &["fault", &dir, "--function", "nvmlInit_v2"],
        &["client", &dir, "--gpu", "0", "--gi", "1", "--", "true"],
    ] {
        assert_eq!(refused(wrong).0, 64, "{wrong:?}");
    }
    for failing in [
        &["show", "/nonexistent"][..],
        &["mig", "enable", &dir, "--gpu", "0"],
        &["lose", &dir, "--gpu", "9"],
        &["client", &dir, "--gpu", "0", "--", "/nonexistent"],
    ] {
        let (code, complaint) = refused(failing);
        assert_eq!(code, 1, "{failing:?}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    assert!(done(&["--help"]).contains("gpusim"));
    assert!(done(&["models"]).contains("h200-141gb"));
    let counts: Value = serde_json::from_str(&done(&["calls", &dir, "-o", "json"])).unwrap();
    assert_eq!(counts["functions"], Value::Array(Vec::new()));
}
