//! The Register call: one question to one kubelet.

use std::error::Error;
use std::time::Duration;

use gpushared_proto::deviceplugin::v1beta1::RegisterRequest;
use gpushared_proto::deviceplugin::v1beta1::registration_client::RegistrationClient;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::kubelet_dir::KubeletSocket;
use crate::socket::SocketError;

/// Why a try did not end in a registration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    #[error("listening for the kubelet")]
    Listen(#[source] SocketError),
    #[error("no kubelet answers on its socket")]
    Unreachable(#[source] Box<Status>),
    #[error("the kubelet refused to register {resource}")]
    Refused {
        resource: String,
        source: Box<Status>,
    },
    #[error("the kubelet did not answer Register within {0:?}")]
    Timeout(Duration),
    #[error("kubelet.sock was created again meanwhile")]
    Replaced,
}

impl RegisterError {
    /// Somebody has to do something about it; the others are a kubelet that is away for a while.
    pub(crate) fn wants_attention(&self) -> bool {
        match self {
            Self::Listen(_) | Self::Refused { .. } | Self::Timeout(_) => true,
            Self::Unreachable(_) | Self::Replaced => false,
        }
    }
}

/// Asks `kubelet`. Hanging up earlier than after its 10 s would cancel its dial as well.
pub(crate) async fn register(
    kubelet: &KubeletSocket,
    request: RegisterRequest,
    limit: Duration,
) -> Result<(), RegisterError> {
    let resource = request.resource_name.clone();
    let mut client = RegistrationClient::new(kubelet.channel.clone());
    match timeout(limit, client.register(request)).await {
        Ok(Ok(_)) => Ok(()),
        // The kubelet answers every refusal of its own with `Unknown`; these are the transport's.
        Ok(Err(status)) if matches!(status.code(), Code::Unavailable | Code::Cancelled) => {
            Err(RegisterError::Unreachable(Box::new(status)))
        }
        Ok(Err(status)) => Err(RegisterError::Refused {
            resource,
            source: Box::new(status),
        }),
        Err(_) => Err(RegisterError::Timeout(limit)),
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
