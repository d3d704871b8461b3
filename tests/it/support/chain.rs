//! Models that fall back to each other.

use rota::{
    api::pb::{BalancingPolicy, CallOptions, DisableModelRequest, InvokeLlmRequest, Model, PutModelRequest},
    scripted::{Script, Upstream},
};
use tonic::Status;

use super::{rota::Rota, world::Scene};

/// Models of one tenant, each with `members` configs, the first two letters of the alphabet and so on.
pub struct Chain {
    /// Where all of them are.
    pub upstream: Upstream,
    /// A scene of each model.
    pub scenes: Vec<Scene>,
}

impl Chain {
    /// That many models, each with that many configs.
    pub async fn set(rota: &Rota, models: usize, members: usize) -> Self {
        let upstream = Upstream::start().await.unwrap();
        let first = Scene::set(rota, &upstream, members).await;
        let mut scenes = Vec::new();
        for index in 1..models {
            let mut scene = first.clone();
            scene.key.model = format!("fallback-{index}");
            let model = Model { key: Some(scene.key.clone()), ..Model::default() };
            scene.clients.config.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
            scene.keys.clear();
            scene.add_configs(members).await;
            scene.enable().await;
            scenes.push(scene);
        }
        scenes.insert(0, first);
        Self { upstream, scenes }
    }

    /// Lets a model fall back to others.
    pub async fn link(&self, from: usize, to: &[usize]) -> Result<Model, Status> {
        let model = Model {
            key: Some(self.scenes[from].key.clone()),
            fallbacks: to.iter().map(|index| self.scenes[*index].key.clone()).collect(),
            ..Model::default()
        };
        let request = PutModelRequest { model: Some(model) };
        Ok(self.scenes[from].clients.config.clone().put_model(request).await?.into_inner().model.unwrap())
    }

    /// Switches a model off.
    pub async fn disable(&self, model: usize) {
        let request = DisableModelRequest { key: Some(self.scenes[model].key.clone()) };
        self.scenes[model].clients.config.clone().disable_model(request).await.unwrap();
    }

    /// Sets a model's policy; what is absent stays.
    pub async fn set_policy(&self, model: usize, policy: BalancingPolicy) {
        self.scenes[model].set_policy(policy).await;
    }

    /// From now on, requests with any key of that model get this.
    pub fn script(&self, model: usize, script: &Script) {
        for key in &self.scenes[model].keys {
            self.upstream.script(key, script.clone());
        }
    }

    /// How often each model was asked.
    pub fn hits(&self) -> Vec<u64> {
        self.scenes.iter().map(|scene| scene.hits(&self.upstream).iter().sum()).collect()
    }

    /// A call of the first model.
    pub fn request(&self, options: CallOptions) -> InvokeLlmRequest {
        InvokeLlmRequest { options: Some(options), ..self.scenes[0].request() }
    }
}
