//! What each command does.

use std::env;
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process;

use gpushared_driver_sim::{
    ClientKind, ClientSpec, Code, ComputeInstanceId, FaultSpec, GpuInstanceId, GpuModel, GpuSlot,
    MigDevice, Node, NodeSpec, OwnedNode, Placement, Process,
};
use gpushared_driver_sim_state::{
    SharedNode, install_libraries, own_cgroup, pid_namespace, process_start_time, real_ns,
};

use crate::args::{Client, Command, Driver, Fault, Init, Kind, Mig, Target};
use crate::error::CtlError;
use crate::show;

type Answer = Result<(), CtlError>;

/// Runs a command and writes what it says to `out`.
pub(crate) fn run(command: &Command, out: &mut dyn Write) -> Answer {
    match command {
        Command::Init(arguments) => init(arguments, out),
        Command::Show { dir, output } => show::node(&SharedNode::open(dir)?, *output, out),
        Command::Mig(command) => mig(command, out),
        Command::Reset(target) => change(target, "resetting", |node, gpu, now| {
            node.reset_gpu(gpu, now)
        }),
        Command::Reboot { dir } => whole(dir, "rebooting", |node| {
            node.reboot();
            Ok(())
        }),
        Command::Xid {
            target,
            xid,
            gi,
            ci,
        } => change(target, "raising an Xid on", |node, gpu, now| match gi {
            Some(gi) => {
                let ci = ci.map(ComputeInstanceId::new);
                node.inject_mig_xid(gpu, GpuInstanceId::new(*gi), ci, *xid, now)
            }
            None => node.inject_xid(gpu, *xid, now),
        }),
        Command::Ecc {
            target,
            volatile_uncorrected,
            volatile_corrected,
        } => change(target, "adding memory errors to", |node, gpu, now| {
            if *volatile_uncorrected > 0 {
                node.inject_uncorrected_ecc(gpu, *volatile_uncorrected, now)?;
            }
            if *volatile_corrected > 0 {
                node.inject_corrected_ecc(gpu, *volatile_corrected, now)?;
            }
            Ok(())
        }),
        Command::Lose(target) => change(target, "losing", |node, gpu, now| node.lose_gpu(gpu, now)),
        Command::Unplug(target) => {
            change(target, "unplugging", |node, gpu, _| node.unplug_gpu(gpu))
        }
        Command::RequireReset(target) => {
            change(target, "breaking", |node, gpu, _| node.require_reset(gpu))
        }
        Command::Driver(arguments) => driver(arguments),
        Command::Fault(arguments) => fault(arguments),
        Command::Heal { dir, gpu } => {
            whole(dir, "healing", |node| node.heal(gpu.map(GpuSlot::new)))
        }
        Command::Client(arguments) => client(arguments),
        Command::Calls {
            dir,
            clear,
            last,
            output,
        } => {
            let shared = SharedNode::open(dir)?;
            if *clear {
                shared.with_unreaped(Node::clear_calls)?;
            }
            show::calls(&shared, *last, *output, out)
        }
        Command::Libs { dir, lib_dir } => {
            let shared = SharedNode::open(dir)?;
            let driver = shared.with_unreaped(|node| node.header.driver_version)?;
            install_libraries(
                shared.dir(),
                &library_dir(lib_dir.as_deref()),
                driver.as_str(),
            )?;
            Ok(())
        }
        Command::Models => {
            for model in GpuModel::all() {
                writeln!(out, "{:20} {}", model.key, model.name)?;
            }
            Ok(())
        }
    }
}

fn init(arguments: &Init, out: &mut dyn Write) -> Answer {
    let spec = NodeSpec {
        gpus: arguments.gpu.0.clone(),
        driver_version: arguments.driver.clone(),
        seed: arguments.seed,
    };
    let driver = || CtlError::Usage(format!("'{}' is not a driver version", arguments.driver));
    let node = OwnedNode::new(&spec).map_err(|_| driver())?;
    let shared = SharedNode::create(&arguments.dir, &node)?;
    writeln!(out, "{}: {} GPUs", shared.dir().display(), node.gpu_count())?;
    let from = library_dir(arguments.lib_dir.as_deref());
    match install_libraries(shared.dir(), &from, &arguments.driver) {
        Ok(()) => writeln!(
            out,
            "LD_LIBRARY_PATH={}",
            shared.dir().join("lib").display()
        )?,
        Err(error) if arguments.lib_dir.is_some() => return Err(error.into()),
        Err(_) => writeln!(
            out,
            "no libraries in {}: gpusim libs installs them",
            from.display()
        )?,
    }
    Ok(())
}

fn library_dir(asked: Option<&Path>) -> PathBuf {
    let beside = || env::current_exe().ok()?.parent().map(Path::to_owned);
    asked
        .map(Path::to_owned)
        .or_else(beside)
        .unwrap_or_else(|| PathBuf::from("."))
}

/// Changes a node and writes its files; what the model refuses is an error.
fn whole<T>(
    dir: &Path,
    doing: &str,
    f: impl FnOnce(&mut Node) -> Result<T, Code>,
) -> Result<T, CtlError> {
    let shared = SharedNode::open(dir)?;
    let answer = shared.with(f)?;
    shared.sync_tree()?;
    let doing = format!("{doing} {}", dir.display());
    answer.map_err(|source| CtlError::Refused { doing, source })
}

/// As [`whole`], for one GPU.
fn change<T>(
    target: &Target,
    doing: &str,
    f: impl FnOnce(&mut Node, GpuSlot, u64) -> Result<T, Code>,
) -> Result<T, CtlError> {
    let doing = format!("{doing} GPU {} of", target.gpu);
    whole(&target.dir, &doing, |node| {
        let now = node.now(real_ns());
        f(node, GpuSlot::new(target.gpu), now)
    })
}

fn mig(command: &Mig, out: &mut dyn Write) -> Answer {
    match command {
        Mig::Enable(target) => mig_mode(target, 1, out),
        Mig::Disable(target) => mig_mode(target, 0, out),
        Mig::Create {
            target,
            profile,
            start,
            count,
        } => {
            for _ in 0..*count {
                let line = change(
                    target,
                    &format!("creating {profile} on"),
                    |node, gpu, now| create(node, gpu, profile, *start, now),
                )?;
                writeln!(out, "{line}")?;
            }
            Ok(())
        }
        Mig::Destroy { target, gi, .. } => {
            change(target, "destroying instances of", |node, gpu, now| {
                let all = node.gpu(gpu)?.instances().map(|gi| gi.id()).collect();
                let wanted = gi.map_or(all, |gi| vec![GpuInstanceId::new(gi)]);
                wanted
                    .into_iter()
                    .try_for_each(|gi| destroy(node, gpu, gi, now))
            })
        }
    }
}

fn mig_mode(target: &Target, mode: u32, out: &mut dyn Write) -> Answer {
    let status = change(target, "changing the MIG mode of", |node, gpu, now| {
        node.set_mig_mode(gpu, mode, now)
    })?;
    let says = match status {
        Code::SUCCESS => "in effect".to_owned(),
        pending => format!("pending: {pending}"),
    };
    writeln!(out, "{says}")?;
    Ok(())
}

fn create(
    node: &mut Node,
    gpu: GpuSlot,
    profile: &str,
    start: Option<u32>,
    now: u64,
) -> Result<String, Code> {
    let mig = node.gpu(gpu)?.mig_model()?;
    let named = |p: &&_| {
        let p: &gpushared_driver_sim::GiProfile = p;
        p.name == profile || profile.parse() == Ok(p.id)
    };
    let profile = mig.gi_profiles.iter().find(named).ok_or(Code::NOT_FOUND)?;
    let size = profile.placements.first().map_or(0, |place| place.size);
    let place = start.map(|start| Placement { start, size });
    let gi = node.create_gi(gpu, profile.id, place, now)?;
    let full = profile.full_ci_profile().ok_or(Code::NOT_SUPPORTED);
    let ci = full.and_then(|full| node.create_ci(gpu, gi, full.id, None, now));
    if ci.is_err() {
        node.destroy_gi(gpu, gi, now)?;
    }
    let ci = ci?;
    let place = node.gi(gpu, gi)?.placement();
    let uuid = node.mig_uuid(MigDevice { gpu, gi, ci })?;
    Ok(format!(
        "gi {gi} ci {ci} {} at {}:{} {uuid}",
        profile.name, place.start, place.size
    ))
}

fn destroy(node: &mut Node, gpu: GpuSlot, gi: GpuInstanceId, now: u64) -> Result<(), Code> {
    let cis: Vec<_> = node
        .gi(gpu, gi)?
        .compute_instances()
        .map(|ci| ci.id())
        .collect();
    for ci in cis {
        node.destroy_ci(MigDevice { gpu, gi, ci }, now)?;
    }
    node.destroy_gi(gpu, gi, now)
}

fn driver(arguments: &Driver) -> Answer {
    whole(&arguments.dir, "changing the driver of", |node| {
        if arguments.unload {
            node.unload_driver()?;
        } else if arguments.mismatch {
            node.mismatch_driver();
        } else {
            node.load_driver();
        }
        Ok(())
    })
}

fn fault(arguments: &Fault) -> Answer {
    if arguments.code == 0 && arguments.delay_ms == 0 {
        return Err(CtlError::Usage(
            "a fault needs --code or --delay-ms".to_owned(),
        ));
    }
    let spec = FaultSpec {
        gpu: arguments.gpu.map(GpuSlot::new),
        count: arguments.count,
        skip: arguments.skip,
        delay_ms: arguments.delay_ms,
        ..FaultSpec::new(&arguments.function, Code::new(arguments.code))
    };
    whole(&arguments.dir, "setting a fault in", |node| {
        node.set_fault(&spec)
    })
}

/// Registers this process and becomes the program: process id and start time stay the same, and whoever looks next
/// after its end removes the client.
fn client(arguments: &Client) -> Answer {
    let pid = process::id();
    let start_time = process_start_time(pid).unwrap_or(0);
    let [program, rest @ ..] = arguments.program.as_slice() else {
        return Err(CtlError::Usage("no program".to_owned()));
    };
    change(
        &arguments.target,
        "registering a client on",
        |node, gpu, now| {
            let spec = ClientSpec {
                process: Process { pid, start_time },
                kind: match arguments.kind {
                    Kind::Compute => ClientKind::Compute,
                    Kind::Graphics => ClientKind::Graphics,
                    Kind::Mps => ClientKind::Mps,
                    Kind::Holder => ClientKind::Holder,
                },
                gpu,
                mig: arguments
                    .gi
                    .map(GpuInstanceId::new)
                    .zip(arguments.ci.map(ComputeInstanceId::new)),
                memory: arguments.memory,
                busy_permille: arguments.busy * 10,
                name: program,
            };
            let id = node.register_client(&spec, now)?;
            node.set_client_cgroup(id, &own_cgroup().unwrap_or_default())?;
            node.set_client_namespace(id, pid_namespace())
        },
    )?;
    let source = process::Command::new(program).args(rest).exec();
    Err(CtlError::Program {
        program: program.clone(),
        source,
    })
}
