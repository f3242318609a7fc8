//! Every statement of the service is one that the migrated database, and the service's role in it, take.

use idempo_devstack::testing;

use crate::support::session;

#[tokio::test]
async fn every_statement_can_be_prepared_by_the_services_role() {
    let database = testing::database("wallet_db").await;
    let client = session(&database.config("idempo_wallet")).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sql");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let prepared = client.prepare(&std::fs::read_to_string(&path).unwrap()).await;
        assert!(prepared.is_ok(), "{}: {prepared:?}", path.display());
        count += 1;
    }
    assert!(count >= 10);
}
