//! What stops the front end as a whole. What only delays a resource is in its status instead.

use std::path::PathBuf;

use gpushared_domain::resource::ResourceName;

/// Why the front end cannot be built, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// A setting that cannot work.
    #[error("{name} {why}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// No socket can have this path.
    #[error(
        "the socket of {resource} would have the path {}, which has {bytes} bytes and may have {limit}: choose a shorter kubelet directory or resource name",
        path.display()
    )]
    SocketPathTooLong {
        /// The resource.
        resource: ResourceName,
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The longest that works.
        limit: usize,
    },
    /// Two resources would share a socket, and a call could not be told apart.
    #[error(
        "{first} and {second} would both be served on {endpoint}: give them different names after the `/`"
    )]
    EndpointTaken {
        /// Who has it.
        first: ResourceName,
        /// Who wants it too.
        second: ResourceName,
        /// The socket.
        endpoint: String,
    },
    /// A list that the kubelet would not take in one message.
    #[error("{resource} lists {count} devices and may list {limit}")]
    TooManyDevices {
        /// The resource.
        resource: ResourceName,
        /// How many it lists.
        count: usize,
        /// How many it may list.
        limit: usize,
    },
    /// A task that lives as long as the front end ended by itself.
    #[error("the task {task} ended by itself")]
    TaskEnded {
        /// Which task.
        task: String,
        /// The panic, if it was one.
        #[source]
        source: Option<tokio::task::JoinError>,
    },
}
