//! Sets the demo up: the service, the upstream, and a tenant with three keys, created through the API.

use crate::{
    api::pb::{self, config_service_client::ConfigServiceClient, invoke_service_client::InvokeServiceClient},
    app::App,
    scripted::{Script, Upstream},
};
use anyhow::{Context, Result};
use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// The keys, and the configs named after them.
pub(super) const NAMES: [&str; 3] = ["alice", "bob", "carol"];
/// The one that the upstream refuses for a while.
pub(super) const FAILING: &str = "bob";
pub(super) const PROVIDER: &str = "scripted";
pub(super) const MODEL: &str = "demo-chat";

const TENANT: &str = "demo";
/// How long the upstream takes to answer, and from one piece of a stream to the next.
const PACE: Duration = Duration::from_millis(60);

/// A channel that sends a token along.
pub(super) type Authorized = InterceptedService<Channel, Bearer>;

pub(super) struct Stage {
    pub(super) app: App,
    pub(super) upstream: Upstream,
    /// Where a client on this machine finds the service.
    pub(super) address: SocketAddr,
    /// The secret of a token of the tenant's administrator.
    pub(super) token: String,
    pub(super) config: ConfigServiceClient<Authorized>,
    pub(super) invoke: InvokeServiceClient<Authorized>,
}

impl Stage {
    /// Sets a service up that has just started with nothing in it.
    pub(super) async fn set(app: App, operator_token: &Path) -> Result<Self> {
        let upstream = Upstream::start().await.context("the scripted upstream")?;
        let mut address = app.address();
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        let operator = fs::read_to_string(operator_token).context("the operator's token")?;
        let token = make_tenant(&channel, operator.trim()).await.context("making the tenant")?;
        let bearer = Bearer::new(&token)?;
        let config = ConfigServiceClient::with_interceptor(channel.clone(), bearer.clone());
        let invoke = InvokeServiceClient::with_interceptor(channel, bearer);
        make_pool(config.clone(), &upstream).await.context("making the model")?;
        for name in NAMES {
            upstream.script(api_key(name), Script::Slow(PACE));
        }
        Ok(Self { app, upstream, address, token, config, invoke })
    }

    /// From now on and for so long, the upstream answers the failing key with 429.
    pub(super) fn rate_limit(&self, time: Duration) {
        self.upstream.script(api_key(FAILING), Script::rate_limited_for(time).after(PACE));
    }

    /// How many requests the upstream has had with the failing key.
    pub(super) fn hits(&self) -> u64 {
        self.upstream.hits(&api_key(FAILING))
    }
}

pub(super) fn model() -> pb::ModelKey {
    pb::ModelKey {
        provider: PROVIDER.into(),
        model_type: pb::ModelType::Llm.into(),
        model: MODEL.into(),
        ..pb::ModelKey::default()
    }
}

/// A scripted upstream takes any key.
fn api_key(name: &str) -> String {
    format!("sk-demo-{name}")
}

/// Makes the tenant and returns the secret of a token for its administrator.
async fn make_tenant(channel: &Channel, operator: &str) -> Result<String> {
    let mut admin = pb::admin_service_client::AdminServiceClient::with_interceptor(
        channel.clone(),
        Bearer::new(operator)?,
    );
    let tenant = pb::Tenant { id: TENANT.into(), name: "Demo".into(), ..pb::Tenant::default() };
    admin.create_tenant(pb::CreateTenantRequest { tenant: Some(tenant) }).await?;
    let token = pb::Token {
        tenant_id: TENANT.into(),
        role: pb::Role::TenantAdmin.into(),
        name: "demo".into(),
        ..pb::Token::default()
    };
    let made = admin.create_token(pb::CreateTokenRequest { token: Some(token) }).await?;
    Ok(made.into_inner().secret)
}

/// Makes the provider, the model and its three configs, and switches balancing on.
async fn make_pool(mut config: ConfigServiceClient<Authorized>, upstream: &Upstream) -> Result<()> {
    let provider = pb::Provider {
        name: PROVIDER.into(),
        kind: "openai_compatible".into(),
        base_url: upstream.base_url(),
        ..pb::Provider::default()
    };
    config.create_provider(pb::CreateProviderRequest { provider: Some(provider) }).await?;
    let put = pb::Model { key: Some(model()), ..pb::Model::default() };
    config.put_model(pb::PutModelRequest { model: Some(put) }).await?;
    let configs = NAMES.map(|name| pb::LoadBalancingConfig {
        name: name.into(),
        credentials: HashMap::from([("api_key".into(), api_key(name))]),
        enabled: Some(true),
        ..pb::LoadBalancingConfig::default()
    });
    let update = pb::UpdateLoadBalancingConfigsRequest {
        key: Some(model()),
        configs: configs.into(),
        ..pb::UpdateLoadBalancingConfigsRequest::default()
    };
    config.update_load_balancing_configs(update).await?;
    let enable = pb::EnableModelLoadBalancingRequest { key: Some(model()) };
    config.enable_model_load_balancing(enable).await?;
    Ok(())
}

/// Sends a token with every call.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    fn new(token: &str) -> Result<Self> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}
