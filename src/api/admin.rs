//! AdminService: tenants and tokens.

use super::{
    from_pb,
    pb::{self, admin_service_server::AdminService},
    status, to_pb,
};
use crate::{
    balance::Gone,
    catalog::{AuditEvent, AuditFilter, Catalog, NewToken, Tenant, Token},
    state::StateStore,
};
use secrecy::ExposeSecret;
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait};

/// Serves `rota.v1.AdminService`.
#[derive(Clone)]
pub struct Admin {
    catalog: Catalog,
    state: Arc<dyn StateStore>,
}

impl Admin {
    /// Serves that catalog. The state of what is deleted is deleted, too.
    #[must_use]
    pub fn new(catalog: Catalog, state: Arc<dyn StateStore>) -> Self {
        Self { catalog, state }
    }
}

#[async_trait]
impl AdminService for Admin {
    async fn create_tenant(
        &self,
        request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::CreateTenantResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let tenant = request.into_inner().tenant.ok_or_else(|| status::invalid("tenant", "is required"))?;
        let tenant = self
            .catalog
            .by(&caller)
            .create_tenant(&tenant.id, &tenant.name)
            .await
            .map_err(|error| status::from_catalog(error.under("tenant")))?;
        Ok(Response::new(pb::CreateTenantResponse { tenant: Some(tenant_out(tenant)) }))
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::GetTenantResponse>, Status> {
        let tenant =
            self.catalog.get_tenant(&request.get_ref().tenant_id).await.map_err(status::from_catalog)?;
        Ok(Response::new(pb::GetTenantResponse { tenant: Some(tenant_out(tenant)) }))
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        let request = request.into_inner();
        let page = from_pb::page(request.page_size, request.page_token);
        let page = self.catalog.list_tenants(page).await.map_err(status::from_catalog)?;
        Ok(Response::new(pb::ListTenantsResponse {
            tenants: page.items.into_iter().map(tenant_out).collect(),
            next_page_token: page.next,
        }))
    }

    async fn delete_tenant(
        &self,
        request: Request<pb::DeleteTenantRequest>,
    ) -> Result<Response<pb::DeleteTenantResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let deleted = self.catalog.by(&caller).delete_tenant(&request.get_ref().tenant_id).await;
        let (tenant, pools) = deleted.map_err(status::from_catalog)?;
        self.state.forget(&Gone { tenant, pools, whole: true, ..Gone::default() }).await;
        Ok(Response::new(pb::DeleteTenantResponse {}))
    }

    async fn rotate_tenant_key(
        &self,
        request: Request<pb::RotateTenantKeyRequest>,
    ) -> Result<Response<pb::RotateTenantKeyResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let rotation = self
            .catalog
            .by(&caller)
            .rotate_tenant_key(&request.get_ref().tenant_id)
            .await
            .map_err(status::from_catalog)?;
        Ok(Response::new(pb::RotateTenantKeyResponse {
            resealed: rotation.resealed as i64,
            unreadable: rotation.unreadable as i64,
            resumed: rotation.resumed,
        }))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let new = token_in(request.into_inner())?;
        let (token, secret) = self
            .catalog
            .by(&caller)
            .create_token(new)
            .await
            .map_err(|error| status::from_catalog(error.under("token")))?;
        Ok(Response::new(pb::CreateTokenResponse {
            token: Some(token_out(token)),
            secret: secret.expose_secret().to_owned(),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<pb::ListTokensRequest>,
    ) -> Result<Response<pb::ListTokensResponse>, Status> {
        let request = request.into_inner();
        let page = from_pb::page(request.page_size, request.page_token);
        let page = self.catalog.list_tokens(&request.tenant_id, page).await.map_err(status::from_catalog)?;
        Ok(Response::new(pb::ListTokensResponse {
            tokens: page.items.into_iter().map(token_out).collect(),
            next_page_token: page.next,
        }))
    }

    async fn list_audit_events(
        &self,
        request: Request<pb::ListAuditEventsRequest>,
    ) -> Result<Response<pb::ListAuditEventsResponse>, Status> {
        let request = request.into_inner();
        let page = from_pb::page(request.page_size, request.page_token);
        let filter = AuditFilter { tenant: request.tenant_id, action: request.action };
        let page = self.catalog.list_audit_events(filter, page).await.map_err(status::from_catalog)?;
        Ok(Response::new(pb::ListAuditEventsResponse {
            events: page.items.into_iter().map(event_out).collect(),
            next_page_token: page.next,
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        self.catalog.by(&caller).revoke_token(&request.get_ref().id).await.map_err(status::from_catalog)?;
        Ok(Response::new(pb::RevokeTokenResponse {}))
    }
}

pub(super) fn token_in(request: pb::CreateTokenRequest) -> Result<NewToken, Status> {
    let token = request.token.ok_or_else(|| status::invalid("token", "is required"))?;
    let expires_at = token.expires_at.map(|time| from_pb::time(time, "token.expires_at")).transpose()?;
    Ok(NewToken {
        role: from_pb::role(token.role, "token.role")?,
        tenant: token.tenant_id,
        name: token.name,
        expires_at,
        may_read_credentials: token.may_read_credentials,
    })
}

fn tenant_out(tenant: Tenant) -> pb::Tenant {
    pb::Tenant { id: tenant.id, name: tenant.name, created_at: Some(to_pb::timestamp(tenant.created_at)) }
}

fn token_out(token: Token) -> pb::Token {
    pb::Token {
        id: token.id.to_string(),
        tenant_id: token.tenant,
        role: to_pb::role(token.role),
        name: token.name,
        expires_at: token.expires_at.map(to_pb::timestamp),
        may_read_credentials: token.may_read_credentials,
        prefix: token.prefix,
        created_at: Some(to_pb::timestamp(token.created_at)),
        last_used_at: token.last_used_at.map(to_pb::timestamp),
    }
}

fn event_out(event: AuditEvent) -> pb::AuditEvent {
    pb::AuditEvent {
        id: event.id.to_string(),
        at: Some(to_pb::timestamp(event.at)),
        tenant_id: event.tenant,
        action: event.action,
        resource: event.resource,
        actor: Some(pb::Actor { token_id: event.token, name: event.actor, role: event.role }),
        before: to_pb::structure(event.before),
        after: to_pb::structure(event.after),
    }
}
