//! Errors at the gRPC edge: the one place where a refusal becomes a status, never `unknown`.
//!
//! The kubelet puts code and message into the pod's status (`Allocate failed due to rpc error: code = … desc = …`).

use tonic::{Code, Status};

use crate::allocator::{Refusal, RefusalKind};

/// The status of a refusal.
pub(crate) fn status(refusal: Refusal) -> Status {
    Status::new(code(refusal.kind), refusal.message)
}

const fn code(kind: RefusalKind) -> Code {
    match kind {
        RefusalKind::UnknownDevice => Code::InvalidArgument,
        RefusalKind::Unhealthy | RefusalKind::NotOffered => Code::FailedPrecondition,
        RefusalKind::Conflict => Code::Aborted,
        RefusalKind::NotReady => Code::Unavailable,
        RefusalKind::Timeout => Code::DeadlineExceeded,
        RefusalKind::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_keeps_its_message_and_none_is_unknown() {
        for kind in [
            RefusalKind::UnknownDevice,
            RefusalKind::Unhealthy,
            RefusalKind::NotOffered,
            RefusalKind::Conflict,
            RefusalKind::NotReady,
            RefusalKind::Timeout,
            RefusalKind::Internal,
        ] {
            let status = status(Refusal::new(kind, "why"));
            assert_eq!(status.message(), "why");
            assert!(
                !matches!(status.code(), Code::Unknown | Code::Ok),
                "{kind:?}"
            );
        }
    }
}
