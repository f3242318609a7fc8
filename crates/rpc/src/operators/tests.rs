use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use idempo_proto::ops::v1::{GetRelayStatusRequest, PauseOutboxRequest, ReplayParkedLettersRequest};
use tonic_types::StatusExt as _;

use super::*;

const DOMAIN: &str = "tests.idempo";
const PAUSE: &str = "idempo.ops.v1.RelayService/PauseOutbox";
const LOOK: &str = "idempo.ops.v1.RelayService/GetRelayStatus";
const REPLAY: &str = "idempo.ops.v1.ParkedService/ReplayParkedLetters";

/// A file of a test's own, removed with this value.
struct File(PathBuf);

impl File {
    fn of(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = Self(std::env::temp_dir().join(format!("idempo-operators-{}-{number}", std::process::id())));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("it can be written");
    }

    fn operators(&self) -> Result<Arc<Operators>, Error> {
        Operators::new(&OperatorsConfig { file: self.0.clone(), open: false }, DOMAIN)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn request<M>(method: &'static str, token: Option<&Token>, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Method::named(method));
    if let Some(token) = token {
        token.authorize(request.metadata_mut());
    }
    request
}

fn pause(token: Option<&Token>) -> Request<PauseOutboxRequest> {
    request(PAUSE, token, PauseOutboxRequest { name: "outboxes/wallet".to_owned(), reason: "moving".to_owned() })
}

fn look(token: Option<&Token>) -> Request<GetRelayStatusRequest> {
    request(LOOK, token, GetRelayStatusRequest::default())
}

fn says<M>(mut request: Request<M>, name: &str) -> Request<M> {
    request.metadata_mut().insert(CALLER_METADATA, name.parse().expect("ASCII"));
    request
}

fn caller<M>(request: &Request<M>) -> String {
    Caller::of(request.metadata()).expect("a caller").as_str().to_owned()
}

fn refused<M: std::fmt::Debug>(outcome: Result<Request<M>, Denied>) -> (Code, String, Option<Tried>) {
    let denied = outcome.expect_err("it is refused");
    let info = denied.status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, DOMAIN);
    (denied.status.code(), info.reason, denied.tried.map(|tried| *tried))
}

#[test]
fn an_operator_goes_by_the_name_of_his_token_and_a_viewer_only_sees() {
    let (ana, bo) = (Token::generate(), Token::generate());
    let file = File::of(&format!("{}\n{}\n", ana.line("ana", Role::Operator), bo.line("bo", Role::Viewer)));
    let operators = file.operators().expect("operators");
    assert_eq!(caller(&operators.admit(says(pause(Some(&ana)), "somebody-else")).expect("let in")), "ana");
    assert_eq!(caller(&operators.admit(look(Some(&bo))).expect("let in")), "bo");
    let (code, reason, tried) = refused(operators.admit(says(pause(Some(&bo)), "ana")));
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "OPERATOR_ROLE_REQUIRED"));
    let tried = tried.expect("it is noted");
    assert_eq!(
        (tried.caller.as_str(), tried.action, tried.target.as_str(), tried.reason.as_str()),
        ("bo", "pause", "outboxes/wallet", "moving")
    );
    assert!(tried.outcome == "OPERATOR_ROLE_REQUIRED" && tried.detail.contains("says it is ana"), "{tried:?}");
}

#[test]
fn who_has_no_token_or_another_is_a_stranger_whatever_he_says() {
    let file = File::of(&Token::generate().line("ana", Role::Operator));
    let operators = file.operators().expect("operators");
    for token in [None, Some(Token::generate())] {
        let (code, reason, tried) = refused(operators.admit(says(pause(token.as_ref()), "ana")));
        assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "OPERATOR_UNKNOWN"));
        assert_eq!(tried.expect("it is noted").caller, "(unknown)");
        let (code, _, tried) = refused(operators.admit(look(token.as_ref())));
        assert_eq!((code, tried), (Code::Unauthenticated, None), "who only wanted to see is not noted");
    }
}

#[test]
fn a_service_speaks_for_operators_and_of_parked_letters_only() {
    let token = Token::generate();
    let file = File::of(&token.line("dlq-admin", Role::Service));
    let operators = file.operators().expect("operators");
    let replay = || request(REPLAY, Some(&token), ReplayParkedLettersRequest::default());
    assert_eq!(caller(&operators.admit(says(replay(), "ana")).expect("let in")), "ana");
    assert_eq!(caller(&operators.admit(replay()).expect("let in")), "dlq-admin");
    assert_eq!(refused(operators.admit(pause(Some(&token)))).1, "OPERATOR_ROLE_REQUIRED");
}

#[test]
fn without_a_file_nobody_may_do_anything_unless_everybody_may() {
    let nobody = Operators::new(&OperatorsConfig::default(), DOMAIN).expect("nobody");
    for outcome in [refused(nobody.admit(pause(None))), refused(nobody.admit(pause(Some(&Token::generate()))))] {
        assert_eq!((outcome.0, outcome.1.as_str()), (Code::PermissionDenied, "OPERATORS_NOT_CONFIGURED"));
        assert!(outcome.2.is_some());
    }
    assert_eq!(refused(nobody.admit(look(None))).0, Code::PermissionDenied);
    let everybody = Operators::new(&OperatorsConfig::open(), DOMAIN).expect("everybody");
    assert_eq!(caller(&everybody.admit(says(pause(None), "whoever")).expect("let in")), "whoever");
    assert!(OperatorsConfig { file: "operators".into(), open: true }.validate().is_err());
}

#[test]
fn what_has_no_rule_is_refused_to_operators_too() {
    let token = Token::generate();
    let file = File::of(&token.line("ana", Role::Operator));
    let operators = file.operators().expect("operators");
    let mut nameless = pause(Some(&token));
    nameless.extensions_mut().remove::<Method>();
    let unruled = request("idempo.ops.v1.RelayService/Explode", Some(&token), PauseOutboxRequest::default());
    for request in [nameless, unruled] {
        assert_eq!(refused(operators.admit(request)).1, "OPERATION_WITHOUT_RULE");
    }
}

#[test]
fn a_flood_of_strangers_is_counted_and_hides_no_operator() {
    let token = Token::generate();
    let file = File::of(&token.line("bo", Role::Viewer));
    let operators = file.operators().expect("operators");
    let noted = (0..500).filter(|_| refused(operators.admit(pause(None))).2.is_some()).count();
    assert!((1..100).contains(&noted), "{noted}");
    let tried = refused(operators.admit(pause(Some(&token)))).2.expect("an operator's try is noted all the same");
    operators.not_noted(&tried);
    let next = refused(operators.admit(pause(Some(&token)))).2.expect("noted");
    assert!(next.detail.ends_with("1 more were refused since the last entry"), "{next:?}");
}

#[test]
fn a_file_that_is_wrong_is_refused_by_its_line_without_a_word_of_it() {
    let file = File::of("# operators\n\nana operator hunter2\n");
    let said = file.operators().expect_err("it is refused").to_string();
    assert!(said.contains(&format!("{}, line 3: ", file.0.display())) && !said.contains("hunter2"), "{said}");
    let gone = Operators::new(&OperatorsConfig { file: "/nowhere/operators".into(), open: false }, DOMAIN).expect_err("it is refused");
    assert!(gone.to_string().contains("/nowhere/operators"), "{gone}");
    file.write(&"#\n".repeat(FILE_BYTES_MAX));
    assert!(matches!(file.operators(), Err(Error::TooLong { .. })));
}

#[test]
fn a_changed_file_is_taken_over_and_a_broken_one_is_not() {
    let (old, new) = (Token::generate(), Token::generate());
    let file = File::of(&old.line("ana", Role::Operator));
    let operators = file.operators().expect("operators");
    let mut told = String::new();
    let mut look = || {
        operators.take_over(std::fs::read(&file.0), &mut told);
        told.clone()
    };
    let is_in = |token: &Token| operators.admit(pause(Some(token))).is_ok();
    file.write("ana operator");
    assert!(look().contains("line 1: ") && is_in(&old), "what was in force stays so");
    std::fs::remove_file(&file.0).expect("removed");
    assert!(look().contains("can't be read") && is_in(&old));
    file.write(&new.line("ana", Role::Operator));
    assert_eq!(look(), "");
    assert!(is_in(&new) && !is_in(&old), "a token that is gone from the file is nobody's");
    file.write("");
    look();
    assert!(!is_in(&new), "an empty file lets nobody in");
}
