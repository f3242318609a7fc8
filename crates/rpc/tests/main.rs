//! The server shell, through real sockets.

#[cfg(test)]
mod shell {
    mod admission;
    mod connections;
    mod deadlines;
    mod draining;
    mod hostile;
    mod platform;
    mod support;
    mod telemetry;
    mod transport_errors;
    mod wire;
}
