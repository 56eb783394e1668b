//! SDP offer and answer (RFC 3264, RFC 8866).
