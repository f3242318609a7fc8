//! A wallet service that answers what it is told to, for the tests of what sends to it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use idempo_rpc::RawCodec;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::wire::{Addresses, Line, Wire};

/// What the service was sent, in the order in which it came.
pub(super) type Received = Arc<Mutex<Vec<Bytes>>>;

/// Gives the answers one after the other, then the last one again and again.
#[derive(Clone)]
struct Fake {
    answers: Arc<Mutex<VecDeque<Result<Bytes, Status>>>>,
    received: Received,
}

impl UnaryService<Bytes> for Fake {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        self.received.lock().expect("no test panicked").push(request.into_inner());
        let mut answers = self.answers.lock().expect("no test panicked");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let answer = answer.expect("a fake has an answer").map(Response::new);
        Box::pin(async move { answer })
    }
}

impl NamedService for Fake {
    const NAME: &'static str = "idempo.wallet.v1.WalletService";
}

impl tower::Service<http::Request<tonic::body::Body>> for Fake {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move { Ok(Grpc::new(RawCodec).unary(fake, request).await) })
    }
}

/// Serves these answers, and gives a line to the service and what comes in on it.
pub(super) async fn serve(answers: impl IntoIterator<Item = Result<Bytes, Status>>) -> (Line, Received) {
    let received = Received::default();
    let fake = Fake { answers: Arc::new(Mutex::new(answers.into_iter().collect())), received: received.clone() };
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = format!("http://{}", incoming.local_addr().expect("a bound socket"));
    tokio::spawn(tonic::transport::Server::builder().add_service(fake).serve_with_incoming(incoming));
    let addresses = Addresses { wallet: address.clone(), inventory: address.clone(), inventory_query: address };
    let line = Wire::connect(&addresses).await.expect("the fake answers").line(0).expect("a good caller");
    (line, received)
}
