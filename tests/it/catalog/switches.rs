//! Switches of a provider: what its server does not take is not sent.

use rota::{
    api::pb::{
        GetProviderRequest, ListAuditEventsRequest, Message, Provider, ProviderSwitches, StreamLlmRequest,
    },
    scripted::{Raw, Script, Upstream},
};
use serde_json::{Value, json};

use super::config::{create, openai, update};
use crate::support::{
    kinds,
    rota::{Rota, on_both_databases},
    world::{Scene, hi},
};

on_both_databases!(
    switches_are_kept_and_replaced_together,
    a_server_gets_only_what_it_takes,
    reasoning_is_read_from_the_text_of_a_provider_that_says_so,
);

const ALL: ProviderSwitches = ProviderSwitches {
    no_stream_options: true,
    no_developer_role: true,
    no_max_completion_tokens: true,
    no_parallel_tool_calls: true,
    think_tags: true,
    // Said, which is another thing than not said.
    responses: Some(false),
    takes_prefill: true,
};

/// Gives the scene's provider these switches.
async fn switch(scene: &Scene, switches: ProviderSwitches) {
    let name = scene.provider.clone();
    let change = Provider { name, switches: Some(switches), ..Provider::default() };
    update(scene, change, None).await.unwrap();
}

async fn switches_are_kept_and_replaced_together(rota: &'static Rota) {
    let scene = Scene::tenant(rota).await;
    let named = || Provider { name: "acme".to_owned(), ..Provider::default() };
    let created = create(&scene, Provider { switches: Some(ALL), ..openai(&scene, "acme") }).await.unwrap();
    assert_eq!(created.switches, Some(ALL));
    let get = GetProviderRequest { tenant_id: String::new(), provider: "acme".to_owned() };
    let got = scene.clients.config.clone().get_provider(get).await.unwrap().into_inner();
    assert_eq!(got.provider, Some(created.clone()));
    assert_eq!(scene.listing().await.providers, [created]);

    let change = Provider { display_name: "Acme".to_owned(), ..named() };
    assert_eq!(update(&scene, change, None).await.unwrap().switches, Some(ALL));
    let one = ProviderSwitches { think_tags: true, ..ProviderSwitches::default() };
    let change = Provider { switches: Some(one), ..named() };
    assert_eq!(update(&scene, change, None).await.unwrap().switches, Some(one));
    let mask = prost_types::FieldMask { paths: vec!["switches".to_owned()] };
    assert_eq!(update(&scene, named(), Some(mask)).await.unwrap().switches, None);

    let request = ListAuditEventsRequest { tenant_id: scene.tenant.clone(), ..Default::default() };
    let events = rota.operator().await.admin.list_audit_events(request).await.unwrap().into_inner().events;
    let switched_on = |value: &Option<prost_types::Struct>| {
        format!("{value:?}").contains(r#""think_tags": Value { kind: Some(BoolValue(true))"#)
    };
    let newest = events.first().unwrap();
    assert_eq!(newest.action, "UpdateProvider");
    assert!(switched_on(&newest.before) && !switched_on(&newest.after), "{newest:?}");
}

async fn a_server_gets_only_what_it_takes(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, &kinds::OPENAI, &upstream, 2).await;
    let everything = json!({
        "role": "developer",
        "stream_options": {"include_usage": true},
        "max_completion_tokens": 7,
        "max_tokens": null,
        "parallel_tool_calls": false,
    });
    let none = ProviderSwitches::default();
    let table = [
        (none, json!({})),
        (ProviderSwitches { no_stream_options: true, ..none }, json!({"stream_options": null})),
        (ProviderSwitches { no_developer_role: true, ..none }, json!({"role": "system"})),
        (
            ProviderSwitches { no_max_completion_tokens: true, ..none },
            json!({"max_completion_tokens": null, "max_tokens": 7}),
        ),
        (ProviderSwitches { no_parallel_tool_calls: true, ..none }, json!({"parallel_tool_calls": null})),
        (ProviderSwitches { think_tags: true, ..none }, json!({})),
    ];
    let instruction = Message { role: "developer".to_owned(), content: "Be brief.".to_owned(), ..hi() };
    let request = StreamLlmRequest {
        key: Some(scene.key.clone()),
        messages: vec![instruction, hi()],
        parameters_json: r#"{"max_completion_tokens": 7, "parallel_tool_calls": false}"#.to_owned(),
        ..StreamLlmRequest::default()
    };
    for (switches, changed) in table {
        switch(&scene, switches).await;
        let mut stream = scene.clients.invoke.clone().stream_llm(request.clone()).await.unwrap().into_inner();
        while stream.message().await.unwrap().is_some() {}
        let sent = upstream.requests().pop().unwrap().body;
        let mut expected = everything.clone();
        for (name, value) in changed.as_object().unwrap() {
            expected[name] = value.clone();
        }
        assert_eq!(told(&sent), expected, "{switches:?}");
    }
}

/// Of a request, what switches change; null for what was left out.
fn told(body: &Value) -> Value {
    json!({
        "role": body["messages"][0]["role"],
        "stream_options": body["stream_options"],
        "max_completion_tokens": body["max_completion_tokens"],
        "max_tokens": body["max_tokens"],
        "parallel_tool_calls": body["parallel_tool_calls"],
    })
}

async fn reasoning_is_read_from_the_text_of_a_provider_that_says_so(rota: &'static Rota) {
    const TEXT: &str = "<think>hm</think>\n\nyes";
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    let answer = json!({
        "id": "1",
        "object": "chat.completion",
        "model": "chat",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    });
    for key in &scene.keys {
        upstream.script(key, Script::Raw(Raw::json(&answer)));
    }
    let ask = async || {
        let message = scene.ask().await.unwrap().message.unwrap();
        (message.content, message.reasoning_content)
    };
    assert_eq!(ask().await, (TEXT.to_owned(), String::new()));
    switch(&scene, ProviderSwitches { think_tags: true, ..ProviderSwitches::default() }).await;
    assert_eq!(ask().await, ("yes".to_owned(), "hm".to_owned()));
}
