//! Credentials. Secrets come in, and only masked secrets go out.

use super::{mask::Mask, service::ConfigApi};
use crate::{
    api::{from_pb, pb, status, to_pb},
    catalog::{Caller, Credential, CredentialChange, CredentialOwner, NewCredential},
    provider::ModelType,
};
use tonic::Status;

impl ConfigApi {
    pub(super) async fn create_credential(
        &self,
        caller: &Caller,
        request: pb::CreateCredentialRequest,
    ) -> Result<pb::CreateCredentialResponse, Status> {
        let (tenant, new) = credential_in(request, caller)?;
        let credential = self
            .catalog
            .by(caller)
            .create_credential(&tenant, new)
            .await
            .map_err(|error| status::from_catalog(error.under("credential")))?;
        Ok(pb::CreateCredentialResponse { credential: Some(credential_out(credential)) })
    }

    pub(super) async fn get_credential(
        &self,
        caller: &Caller,
        request: pb::GetCredentialRequest,
    ) -> Result<pb::GetCredentialResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let credential = self
            .catalog
            .get_credential(&tenant, &request.provider, &request.id)
            .await
            .map_err(status::from_catalog)?;
        Ok(pb::GetCredentialResponse { credential: Some(credential_out(credential)) })
    }

    pub(super) async fn list_credentials(
        &self,
        caller: &Caller,
        request: pb::ListCredentialsRequest,
    ) -> Result<pb::ListCredentialsResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let model = model(request.model_type, request.model, "model_type")?;
        let page = from_pb::page(request.page_size, request.page_token);
        let page = self
            .catalog
            .list_credentials(&tenant, &request.provider, model, page)
            .await
            .map_err(status::from_catalog)?;
        Ok(pb::ListCredentialsResponse {
            credentials: page.items.into_iter().map(credential_out).collect(),
            next_page_token: page.next,
        })
    }

    pub(super) async fn update_credential(
        &self,
        caller: &Caller,
        request: pb::UpdateCredentialRequest,
    ) -> Result<pb::UpdateCredentialResponse, Status> {
        let credential = request.credential.ok_or_else(|| status::invalid("credential", "is required"))?;
        let tenant = from_pb::tenant(caller, &credential.tenant_id, "credential.tenant_id")?;
        let mask = Mask::read(request.update_mask, &["name", "fields"])?;
        let change = CredentialChange {
            name: mask.pick("name", !credential.name.is_empty(), credential.name),
            fields: mask.pick(
                "fields",
                !credential.fields.is_empty(),
                credential.fields.into_iter().collect(),
            ),
            revision: credential.revision,
        };
        let credential = self
            .catalog
            .by(caller)
            .update_credential(&tenant, &credential.provider, &credential.id, change)
            .await
            .map_err(|error| status::from_catalog(error.under("credential")))?;
        Ok(pb::UpdateCredentialResponse { credential: Some(credential_out(credential)) })
    }

    pub(super) async fn delete_credential(
        &self,
        caller: &Caller,
        request: pb::DeleteCredentialRequest,
    ) -> Result<pb::DeleteCredentialResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        self.catalog
            .by(caller)
            .delete_credential(&tenant, &request.provider, &request.id)
            .await
            .map_err(status::from_catalog)?;
        Ok(pb::DeleteCredentialResponse {})
    }

    pub(super) async fn activate_credential(
        &self,
        caller: &Caller,
        request: pb::ActivateCredentialRequest,
    ) -> Result<pb::ActivateCredentialResponse, Status> {
        let tenant = from_pb::tenant(caller, &request.tenant_id, "tenant_id")?;
        let credential = self
            .catalog
            .by(caller)
            .activate_credential(&tenant, &request.provider, &request.id)
            .await
            .map_err(status::from_catalog)?;
        Ok(pb::ActivateCredentialResponse { credential: Some(credential_out(credential)) })
    }
}

pub(super) fn credential_in(
    request: pb::CreateCredentialRequest,
    caller: &Caller,
) -> Result<(String, NewCredential), Status> {
    let credential = request.credential.ok_or_else(|| status::invalid("credential", "is required"))?;
    let tenant = from_pb::tenant(caller, &credential.tenant_id, "credential.tenant_id")?;
    let new = NewCredential {
        owner: CredentialOwner {
            provider: credential.provider,
            model: model(credential.model_type, credential.model, "credential.model_type")?,
        },
        name: credential.name,
        fields: credential.fields.into_iter().collect(),
        activate: request.activate,
    };
    Ok((tenant, new))
}

/// Reads the model that a credential belongs to. `None` where no name is given.
fn model(model_type: i32, name: String, field: &str) -> Result<Option<(ModelType, String)>, Status> {
    if name.is_empty() {
        return Ok(None);
    }
    Ok(Some((from_pb::model_type(model_type, field)?, name)))
}

pub(super) fn credential_out(credential: Credential) -> pb::Credential {
    let (model_type, model) = match credential.owner.model {
        Some((model_type, model)) => (to_pb::model_type(model_type), model),
        None => (pb::ModelType::Unspecified.into(), String::new()),
    };
    pb::Credential {
        id: credential.id.to_string(),
        tenant_id: credential.tenant,
        provider: credential.owner.provider,
        model_type,
        model,
        name: credential.name,
        fields: credential.fields.into_iter().collect(),
        active: credential.active,
        revision: credential.revision,
        warning: credential.warning,
    }
}
