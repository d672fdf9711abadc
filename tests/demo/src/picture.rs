//! The node as a picture: a bar for each GPU, cut where its slices are, with the pods in them.

use std::fmt::Write as _;

use serde_json::Value;

/// Characters of a bar for each memory slice.
const CELL: usize = 8;
/// Memory slices of the demo's GPUs.
const SLICES: usize = 8;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// What stands in a slice: its pod, `·` when free, `✗` when unhealthy.
fn label(slice: &Value) -> String {
    let pod = slice
        .get("lease")
        .map(|lease| {
            lease
                .get("container")
                .map_or("", |container| text(container, "pod"))
        })
        .unwrap_or_default();
    let leased = slice.get("lease").is_some_and(|lease| !lease.is_null());
    let healthy = slice
        .get("healthy")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let holder = match (leased, pod) {
        (false, _) => "·",
        (true, "") => "(starting)",
        (true, pod) => pod,
    };
    if healthy {
        holder.to_owned()
    } else {
        format!("✗ {holder}").trim_end_matches(" ·").to_owned()
    }
}

/// `content` in exactly `width` characters.
fn fit(content: &str, width: usize) -> String {
    let shown: String = content.chars().take(width).collect();
    let left = (width - shown.chars().count()) / 2;
    format!("{:left$}{shown:<rest$}", "", rest = width - left)
}

fn number(value: Option<&Value>) -> usize {
    value
        .and_then(Value::as_u64)
        .and_then(|number| usize::try_from(number).ok())
        .unwrap_or(0)
}

/// One line for each GPU of a status.
pub(crate) fn node(status: &Value) -> String {
    let mut picture = String::new();
    for gpu in list(status, "gpus") {
        let slices = list(gpu, "slices");
        let whole = slices
            .iter()
            .find(|slice| slice.get("placement").is_none_or(Value::is_null));
        let bar = match whole {
            Some(slice) => fit(&label(slice), CELL * SLICES - 1),
            None => cut(slices),
        };
        let index = gpu
            .get("index")
            .map(ToString::to_string)
            .unwrap_or_default();
        let kind = if whole.is_some() { "whole" } else { "MIG" };
        // writing into a String cannot fail
        writeln!(picture, "         GPU {index} {kind:5} ▕{bar}▏").ok();
    }
    picture
}

/// The bar of a GPU that is cut.
fn cut(slices: &[Value]) -> String {
    let mut bar = String::new();
    let mut next = 0;
    for slice in slices {
        let placement = slice.get("placement");
        let start = number(placement.and_then(|placement| placement.get(0)));
        let size = number(placement.and_then(|placement| placement.get(1)));
        if start > next {
            bar.push_str(&" ".repeat(CELL * (start - next)));
        }
        bar.push_str(&fit(&label(slice), (CELL * size).saturating_sub(1)));
        next = start + size;
        bar.push(if next == SLICES { ' ' } else { '│' });
    }
    let missing = (CELL * SLICES).saturating_sub(bar.chars().count());
    bar.push_str(&" ".repeat(missing));
    bar.chars().take(CELL * SLICES - 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_gpu_shows_its_slices_at_their_places() {
        let status: Value = serde_json::from_str(
            r#"{"gpus": [
              {"index": 0, "slices": [{"placement": null, "healthy": true, "lease": {"container": {"pod": "train"}}}]},
              {"index": 1, "slices": [
                {"placement": [0, 4], "healthy": true, "lease": null},
                {"placement": [4, 1], "healthy": false, "lease": null},
                {"placement": [6, 1], "healthy": true, "lease": {"container": {"pod": "nb"}}}]}]}"#,
        )
        .expect("JSON");
        let picture = node(&status);
        let lines: Vec<&str> = picture.lines().collect();
        assert!(lines[0].contains("GPU 0 whole") && lines[0].contains("train"));
        assert_eq!(lines[0].chars().count(), lines[1].chars().count());
        let bar: Vec<char> = lines[1].split('▕').nth(1).expect("a bar").chars().collect();
        assert_eq!(bar[CELL * 4 - 1], '│');
        let at = |wanted: char| {
            bar.iter()
                .position(|&char| char == wanted)
                .map(|at| at / CELL)
        };
        assert_eq!([at('·'), at('✗'), at('n')], [Some(1), Some(4), Some(6)]);
    }
}
