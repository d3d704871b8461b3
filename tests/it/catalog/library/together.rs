//! A set of configs is prepared before its change takes the lock. Whatever else changes meanwhile, on any replica, nothing is
//! lost and nothing is half.

use rota::catalog::{ConfigFrom, Error, NewConfig, ResourceKind};

use super::{Bed, KEY, OTHER_KEY, again, inline, link, serving};

const ROUNDS: usize = 15;

fn rows(count: usize, key: &str) -> Vec<NewConfig> {
    (0..count).map(|row| inline(&format!("row {row}"), &format!("{key}-{row}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_saved_beside_a_rotation_stays_readable() {
    let (bed, key) = Bed::with_model().await;
    let other = bed.replica().await.by_command_line();
    bed.save(&key, rows(30, KEY)).await.unwrap();
    bed.writer().set_balancing(&key, true).await.unwrap();
    for round in 0..ROUNDS {
        let listed = bed.listed(&key).await;
        // Every row is written, and every second one keeps its secret.
        let set = listed.iter().enumerate().map(|(place, config)| match place % 2 {
            0 => NewConfig { weight: Some(1 + i32::try_from(round).unwrap()), ..again(config) },
            _ => NewConfig { credentials: super::api_key(&format!("{OTHER_KEY}-{round}")), ..again(config) },
        });
        let (saved, rotated) = tokio::join!(bed.save(&key, set.collect()), other.rotate_tenant_key("acme"));
        saved.unwrap();
        assert_eq!(rotated.unwrap().unreadable, 0);
        let fresh = bed.replica().await;
        let secrets = serving(&fresh, &key);
        assert_eq!(secrets.len(), 30, "round {round}");
        for (place, secret) in secrets.iter().enumerate() {
            let expected =
                if place % 2 == 0 { format!("{KEY}-{place}") } else { format!("{OTHER_KEY}-{round}") };
            assert_eq!(*secret, expected, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_links_a_credential_beside_its_deletion_is_refused_or_loses_the_config() {
    let (bed, key) = Bed::with_model().await;
    let other = bed.replica().await;
    let mut ends = [0, 0];
    for round in 0..ROUNDS {
        let credential = bed.credential("openai", &format!("credential {round}"), KEY).await;
        let mut set = rows(20, KEY);
        set.push(link(&credential));
        let writer = other.by_command_line();
        let id = credential.id.to_string();
        let delete = writer.delete_credential("acme", "openai", &id);
        let (saved, deleted) = tokio::join!(bed.save(&key, set), delete);
        deleted.unwrap();
        match saved {
            Ok(_) => ends[0] += 1,
            Err(Error::NotFound(ResourceKind::Credential, _)) => ends[1] += 1,
            Err(error) => panic!("round {round}: {error:?}"),
        }
        let listed = bed.listed(&key).await;
        assert!(listed.iter().all(|config| config.credential_id.is_empty()), "round {round}: {listed:?}");
    }
    println!("saved first {}, deleted first {}", ends[0], ends[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sets_that_are_saved_together_one_stands_as_a_whole() {
    let (bed, key) = Bed::with_model().await;
    let other = bed.replica().await;
    for round in 0..ROUNDS {
        let set = |who: &str| -> Vec<NewConfig> {
            (0..25).map(|row| inline(&format!("{who} {round} {row}"), KEY)).collect()
        };
        let before = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap().revision;
        let writer = other.by_command_line();
        let there = writer.update_configs(&key, ConfigFrom::Any, 0, set("there"));
        let (here, there) = tokio::join!(bed.save(&key, set("here")), there);
        let (here, there) = (here.unwrap(), there.unwrap());
        assert_eq!(here.revision.max(there.revision), before + 2, "round {round}");
        let last = if here.revision > there.revision { here } else { there };
        let names = |configs: &[rota::catalog::Config]| -> Vec<String> {
            configs.iter().map(|config| config.name.clone()).collect()
        };
        let listed = bed.catalog.configs(&key, ConfigFrom::Any).await.unwrap();
        assert_eq!((listed.revision, names(&listed.configs)), (last.revision, names(&last.configs)));
    }
}
