//! The command line.

use super::json;
use clap::{ArgGroup, Args, Parser, Subcommand, builder::PossibleValuesParser};
use clap_complete::Shell;
use std::path::PathBuf;

/// Attach volumes to the guests of this host.
///
/// bowline asks the agent (bowlined) over D-Bus and shows what it does, step by step.
#[derive(Debug, Parser)]
#[command(name = "bowline", version, after_long_help = json::SHAPES, arg_required_else_help = true)]
pub struct Cli {
    /// Print JSON on standard output, and errors as JSON on standard error
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,

    /// D-Bus address of the bus the agent is on [default: the system bus]
    #[arg(
        long,
        global = true,
        display_order = 901,
        env = "DBUS_SYSTEM_BUS_ADDRESS",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    pub bus_address: Option<String>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach a volume to a guest
    Attach(AttachArgs),
    /// Detach a volume from a guest
    Detach(DetachArgs),
    /// List what is attached
    List,
    /// Show an attachment, an operation or a volume
    Show {
        /// Id of any of them, or a volume's name
        id: String,
    },
    /// List operations that have not ended
    Operations {
        /// The latest ended ones too
        #[arg(long)]
        all: bool,
    },
    /// Boot a guest, defined and off or defined by the boot, from disks that are made or taken for it
    Boot(BootArgs),
    /// Stop a booted guest and delete its disks, and its definition if its boot made that; volumes stay, but for those with
    /// delete_on_termination
    Delete(DeleteArgs),
    /// Make the root disk of a guest, booted onto an ephemeral one and off, anew; it keeps its other disks
    Rebuild(RebuildArgs),
    /// Start a booted guest from an image's disk, with its own disks behind it
    #[command(
        after_help = "A guest that does not shut down within libvirt.shutdown_timeout_s has its power cut. Its definition stays as it is."
    )]
    Rescue(RescueArgs),
    /// Start a rescued guest from its own disks again, and delete the rescue disk
    Unrescue(StopArgs),
    /// Start a guest, its volumes connected before
    Start(StartArgs),
    /// Ask a guest to shut down, and wait until it has; its volumes stay attached
    #[command(after_help = "A guest that runs on for longer than libvirt.shutdown_timeout_s is left running: ends with 11.")]
    Stop(StopArgs),
    /// Make an image of a booted guest: of its ephemeral root disk, or of snapshots of all its volumes
    Snapshot(SnapshotArgs),
    /// Extend a volume; guests of this host that have it see the new size
    Extend(ExtendArgs),
    /// Cancel an operation: it is undone
    Cancel {
        /// Id of the operation
        operation: String,
    },
    /// Give up an operation that is stuck: what it left stays behind
    Abandon {
        /// Id of the operation
        operation: String,
        /// Do it; without this, only what is known of it is shown
        #[arg(long)]
        yes: bool,
    },
    /// Tell what this host can do, and what mends what it cannot
    #[command(
        after_help = "Ends with 1 when something that is set up, or attached, cannot work. Run it as root to see everything."
    )]
    Doctor,
    /// Compare what the agent has written down with libvirt, this host and the volume service
    #[command(
        after_help = "Ends with 1 when something differs that is not mended. What is somebody else's is told and never touched."
    )]
    Fsck {
        /// Mend what can be mended without harm
        #[arg(long)]
        repair: bool,
    },
    /// Take over a volume that Nova, another tool or a hand attached to a guest of this host
    #[command(after_help = "It is proved first that the guest has the volume; nothing of guest, session or device is changed.")]
    Adopt {
        /// Id or unique name of the volume
        volume: String,
        /// Name or UUID of the guest
        guest: String,
    },
    /// Create, list, show and delete volumes
    Volume {
        /// What to do with them.
        #[command(subcommand)]
        command: VolumeCommand,
    },
    /// Print the completions for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages of all commands
    Man {
        /// Folder to write them to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// What to do with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume and wait until it is available
    Create {
        /// Its name
        name: String,
        /// Size in GiB
        #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..))]
        size: u64,
        /// Volume type [default: the service's]
        #[arg(long = "type", value_name = "TYPE")]
        volume_type: Option<String>,
        /// Several guests may have it at once (Cinder wants a volume type for that instead)
        #[arg(long)]
        multiattach: bool,
    },
    /// List volumes
    List,
    /// Show a volume
    Show {
        /// Id or unique name
        volume: String,
    },
    /// Delete a volume and wait until it is gone
    Delete {
        /// Id or unique name
        volume: String,
    },
}

/// `bowline attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Id or unique name of the volume
    pub volume: String,
    /// Name or UUID of the guest
    pub guest: String,
    /// Bus of the disk [default: the agent's configuration]
    #[arg(long, value_parser = PossibleValuesParser::new(["virtio", "scsi"]))]
    pub bus: Option<String>,
    /// Name of the disk in the guest's definition, such as vdc [default: the first free one]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// The guest may only read
    #[arg(long)]
    pub read_only: bool,
    /// What the disk is for; shown with the attachment
    #[arg(long, value_name = "WORD")]
    pub tag: Option<String>,
    /// Its place among the devices that the guest boots from, counted from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub boot_order: Option<u32>,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// Id or unique name of the volume
    pub volume: String,
    /// Name or UUID of the guest [default: the only one on this host that has the volume]
    pub guest: Option<String>,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline extend`.
#[derive(Debug, Args)]
pub struct ExtendArgs {
    /// Id or unique name of the volume
    pub volume: String,
    /// Size it is to have, in GiB; it can never be shrunk again
    #[arg(value_name = "SIZE_GIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub size_gib: u64,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline boot`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("root").args(["image", "volume", "snapshot"]))]
pub struct BootArgs {
    /// Name or UUID of the guest; of one that the boot defines the name it is to have
    pub guest: String,
    /// Define the guest by this domain XML; - reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["memory", "vcpus", "network", "virt_type", "arch", "machine"])]
    pub xml: Option<PathBuf>,
    /// Define a plain guest with this much memory, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub memory: Option<u64>,
    /// Its virtual processors [default: 1]
    #[arg(long, value_name = "N", requires = "memory", value_parser = clap::value_parser!(u32).range(1..))]
    pub vcpus: Option<u32>,
    /// A network of libvirt's that it has an interface in; may be repeated [default: none]
    #[arg(long, value_name = "NETWORK", requires = "memory")]
    pub network: Vec<String>,
    /// Whether the processor helps to run it [default: where it can]
    #[arg(long, requires = "memory", value_parser = PossibleValuesParser::new(["kvm", "qemu"]))]
    pub virt_type: Option<String>,
    /// Its architecture, such as x86_64 [default: the host's]
    #[arg(long, requires = "memory")]
    pub arch: Option<String>,
    /// Its machine type, such as q35 [default: libvirt's]
    #[arg(long, requires = "memory")]
    pub machine: Option<String>,
    /// Id or unique name of the image to boot
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["volume", "snapshot"])]
    pub image: Option<String>,
    /// Where the image goes: a disk of this host that goes with the guest, or a new volume
    #[arg(long, requires = "image", default_value = "ephemeral", value_parser = PossibleValuesParser::new(["ephemeral", "volume"]))]
    pub to: String,
    /// Size of the image's disk or of the new volume, in GiB [default: the image's own, where the service knows it, or the snapshot's]
    #[arg(long, value_name = "GIB", requires = "root", value_parser = clap::value_parser!(u64).range(1..))]
    pub size: Option<u64>,
    /// Id or unique name of the volume to boot
    #[arg(long, value_name = "VOLUME", conflicts_with_all = ["snapshot", "size"])]
    pub volume: Option<String>,
    /// Id or unique name of the volume snapshot to boot a new volume of
    #[arg(long, value_name = "SNAPSHOT")]
    pub snapshot: Option<String>,
    /// Start the guest at once, on an ephemeral disk: the image comes while it runs, what it reads first
    #[arg(long, requires = "image")]
    pub lazy: bool,
    /// Delete the volume that it boots from with the guest
    #[arg(long, requires = "root")]
    pub delete_on_termination: bool,
    /// A further disk, as openstack server create has it: source_type=blank,destination_type=volume,volume_size=1, or JSON, or a file
    /// with that; volume_size is in GiB, of guest_format=swap in MiB
    #[arg(long, value_name = "KEY=VALUE,...|FILE")]
    pub block_device: Vec<String>,
    /// File with a JSON list of disks, as Nova's block_device_mapping_v2; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Name or UUID of the guest
    pub guest: String,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Name or UUID of the guest
    pub guest: String,
    /// Id or unique name of the image [default: the one that the disk was made of]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Size of an ephemeral disk, in GiB [default: what was asked for at the boot, else the image's own]; a volume keeps its size
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub size: Option<u64>,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline rescue`.
#[derive(Debug, Args)]
pub struct RescueArgs {
    /// Name or UUID of the guest
    pub guest: String,
    /// Id or unique name of the image [default: the one that the guest's root disk was made of]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Size of the rescue disk, in GiB [default: the image's own]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub size: Option<u64>,
    /// Cut its power at once, as pulling the plug would; what it has not written is lost
    #[arg(long)]
    pub force: bool,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Name or UUID of the guest
    pub guest: String,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline stop` and `bowline unrescue`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Name or UUID of the guest
    pub guest: String,
    /// Cut its power at once, as pulling the plug would; what it has not written is lost
    #[arg(long)]
    pub force: bool,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `bowline snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// Name or UUID of the guest
    pub guest: String,
    /// Name of the image
    pub name: String,
    /// Do not have the guest's agent freeze its filesystems for the moment in which the disks are caught
    #[arg(long)]
    pub no_freeze: bool,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// How to wait for an operation.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Print what would be done and do nothing
    #[arg(long, conflicts_with_all = ["no_wait", "timeout_s"])]
    pub dry_run: bool,
    /// Do not wait for the end
    #[arg(long, conflicts_with = "timeout_s")]
    pub no_wait: bool,
    /// Stop waiting after this many seconds; the operation goes on
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub timeout_s: Option<u64>,
}
