-- What `rota serve` 0.1.0 (commit 3711e3c) left in its rota.db: `sqlite3 rota.db .dump`. `released.rs` says under which
-- keys. Never change a file of this folder. A release adds one where it changes what is stored.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE IF NOT EXISTS "seaql_migrations" ( "version" varchar NOT NULL PRIMARY KEY, "applied_at" integer NOT NULL );
INSERT INTO seaql_migrations VALUES('m0001_first',1795914233);
INSERT INTO seaql_migrations VALUES('m0002_balancing',1795914233);
INSERT INTO seaql_migrations VALUES('m0003_leases',1795914233);
INSERT INTO seaql_migrations VALUES('m0004_last_use',1795914233);
INSERT INTO seaql_migrations VALUES('m0005_audit',1795914233);
CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);
INSERT INTO meta VALUES('master_key_check','1:19DFJCVU8g6/0bifZG8MRqpxKt9lZ+uQzuyBScCbEyM=');
CREATE TABLE counter (id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1), last BIGINT NOT NULL);
INSERT INTO counter VALUES(1,18);
CREATE TABLE outbox (number BIGINT PRIMARY KEY NOT NULL, tenant_id BLOB, scope TEXT NOT NULL,
        scope_id BLOB NOT NULL, created_at BIGINT NOT NULL);
INSERT INTO outbox VALUES(1,NULL,'token',X'01a224d4777e74ab8e900d8690083cc2',1795914233726);
INSERT INTO outbox VALUES(2,X'01a224d4dd2570e8bf1221d208681dfd','tenant',X'01a224d4dd2570e8bf1221d208681dfd',1795914259750);
INSERT INTO outbox VALUES(3,X'01a224d4dd2570e8bf1221d208681dfd','token',X'01a224d4dd2c71ba84b41ab995944b14',1795914259756);
INSERT INTO outbox VALUES(4,X'01a224d4dd2570e8bf1221d208681dfd','token',X'01a224d4dd2e75c1b0c5ee5da3d86979',1795914259758);
INSERT INTO outbox VALUES(5,X'01a224d4dd2570e8bf1221d208681dfd','provider',X'01a224d4dd45747e8b433ee7c7ff6479',1795914259781);
INSERT INTO outbox VALUES(6,X'01a224d4dd2570e8bf1221d208681dfd','provider',X'01a224d4dd4971979e8087467140e8be',1795914259785);
INSERT INTO outbox VALUES(7,X'01a224d4dd2570e8bf1221d208681dfd','provider',X'01a224d4dd45747e8b433ee7c7ff6479',1795914259790);
INSERT INTO outbox VALUES(8,X'01a224d4dd2570e8bf1221d208681dfd','provider',X'01a224d4dd45747e8b433ee7c7ff6479',1795914259796);
INSERT INTO outbox VALUES(9,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd5b73ec845ae9458707b3f0',1795914259803);
INSERT INTO outbox VALUES(10,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd65753f927e4a0f3a91fff0',1795914259813);
INSERT INTO outbox VALUES(11,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd6972ff9173247f8c147a1c',1795914259817);
INSERT INTO outbox VALUES(12,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd6972ff9173247f8c147a1c',1795914259822);
INSERT INTO outbox VALUES(13,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd65753f927e4a0f3a91fff0',1795914259832);
INSERT INTO outbox VALUES(14,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd65753f927e4a0f3a91fff0',1795914259837);
INSERT INTO outbox VALUES(15,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd65753f927e4a0f3a91fff0',1795914259843);
INSERT INTO outbox VALUES(16,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd65753f927e4a0f3a91fff0',1795914259848);
INSERT INTO outbox VALUES(17,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd6972ff9173247f8c147a1c',1795914259856);
INSERT INTO outbox VALUES(18,X'01a224d4dd2570e8bf1221d208681dfd','model',X'01a224d4dd6972ff9173247f8c147a1c',1795914259874);
CREATE TABLE tenants (id BLOB PRIMARY KEY NOT NULL, name TEXT NOT NULL UNIQUE, display_name TEXT NOT NULL,
        data_key_id BLOB NOT NULL, created_at BIGINT NOT NULL);
INSERT INTO tenants VALUES(X'01a224d4dd2570e8bf1221d208681dfd','acme','Acme',X'01a224d4ddc07321841a36eadced15eb',1795914259749);
CREATE TABLE data_keys (id BLOB PRIMARY KEY NOT NULL,
        tenant_id BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        master_key_id TEXT NOT NULL, sealed TEXT NOT NULL);
INSERT INTO data_keys VALUES(X'01a224d4ddc07321841a36eadced15eb',X'01a224d4dd2570e8bf1221d208681dfd','1','cPSs8UNXDj7R2EOsW8Hp7AC6lMZhdnW1HbonPy2VUf8uvZFsmMiMYVUrT2lBFB46tV1KAwlzvow7cvqa1YZv2ckF1nZnAr0ek0ngYX+CDJ4KLAH5qkzsvNtf5PI=');
CREATE TABLE tokens (id BLOB PRIMARY KEY NOT NULL,
        tenant_id BLOB REFERENCES tenants (id) ON DELETE CASCADE,
        role TEXT NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, prefix TEXT NOT NULL,
        expires_at BIGINT, created_at BIGINT NOT NULL, may_read_credentials BOOLEAN NOT NULL DEFAULT FALSE, last_used_at BIGINT);
INSERT INTO tokens VALUES(X'01a224d4777e74ab8e900d8690083cc2',NULL,'operator','first start',X'98ce8882b208b3baab3f7f79f21f492ebfb8814ffe67d3f7813fef04f0a3daed','rota_QOKZ1',NULL,1795914233722,0,1795914259901);
INSERT INTO tokens VALUES(X'01a224d4dd2c71ba84b41ab995944b14',X'01a224d4dd2570e8bf1221d208681dfd','tenant_admin','admin',X'3b230d1c13a7b5013367532ae199c74fe7a2c69ab0ee87cb5de60d4dd1336ef6','rota_G94g0',NULL,1795914259755,0,1795914259986);
INSERT INTO tokens VALUES(X'01a224d4dd2e75c1b0c5ee5da3d86979',X'01a224d4dd2570e8bf1221d208681dfd','invoker','invoker',X'95eb65cb16f79b3c96d36d1c33415677780b89cd62ece040708937b69b349e74','rota_0h0YH',NULL,1795914259758,1,NULL);
CREATE TABLE providers (id BLOB PRIMARY KEY NOT NULL,
        tenant_id BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        name TEXT NOT NULL, kind TEXT NOT NULL, display_name TEXT NOT NULL, base_url TEXT NOT NULL,
        enabled BOOLEAN NOT NULL, revision BIGINT NOT NULL, UNIQUE (tenant_id, name));
INSERT INTO providers VALUES(X'01a224d4dd45747e8b433ee7c7ff6479',X'01a224d4dd2570e8bf1221d208681dfd','openai','openai','OpenAI','http://127.0.0.1:9/v1',1,1);
INSERT INTO providers VALUES(X'01a224d4dd4971979e8087467140e8be',X'01a224d4dd2570e8bf1221d208681dfd','own','openai_compatible','','http://127.0.0.1:9/v1',1,1);
CREATE TABLE credentials (id BLOB PRIMARY KEY NOT NULL,
        tenant_id BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        provider_id BLOB NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
        model_type TEXT NOT NULL, model TEXT NOT NULL, name TEXT NOT NULL, fields TEXT NOT NULL,
        active BOOLEAN NOT NULL, revision BIGINT NOT NULL, UNIQUE (provider_id, model_type, model, name));
INSERT INTO credentials VALUES(X'01a224d4dd4d7256b198a4581f03fb73',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd45747e8b433ee7c7ff6479','','','first','{"api_key":{"key":"01a224d4-ddc0-7321-841a-36eadced15eb","sealed":"stCkuKK3qTmV6ddqYtyCmu6rNI/OIOtyIrIUKx5d1TKC8hYHCtua370YcQfVcoX4"},"organization":"org-1"}',1,1);
INSERT INTO credentials VALUES(X'01a224d4dd5371eea7ee8467367ddfb0',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd45747e8b433ee7c7ff6479','','','second','{"api_key":{"key":"01a224d4-ddc0-7321-841a-36eadced15eb","sealed":"1UysHt1F8q+UamRAvR0TvVdP3N2o36kD+mC3w1yxm2wJJQ2i8uoL9+d2sRQNqu/cbA=="}}',0,1);
INSERT INTO credentials VALUES(X'01a224d4dd6d775d8d503d7f532570af',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd45747e8b433ee7c7ff6479','text-embedding','embed','of the model','{"api_key":{"key":"01a224d4-ddc0-7321-841a-36eadced15eb","sealed":"9kz4HNSqC2c0qzFWhR/AarxMf9ahO/Kegn1ZOwNJTJdk3E4RsYoAQovoYU8AEYE1"}}',1,1);
CREATE TABLE models (id BLOB PRIMARY KEY NOT NULL,
        tenant_id BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        provider_id BLOB NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
        model_type TEXT NOT NULL, name TEXT NOT NULL, upstream_model TEXT NOT NULL, enabled BOOLEAN NOT NULL,
        lb_enabled BOOLEAN NOT NULL, lb_revision BIGINT NOT NULL, next_ordinal INTEGER NOT NULL,
        inherit TEXT NOT NULL, revision BIGINT NOT NULL, policy TEXT NOT NULL DEFAULT '', fallbacks TEXT NOT NULL DEFAULT '', UNIQUE (provider_id, model_type, name));
INSERT INTO models VALUES(X'01a224d4dd5b73ec845ae9458707b3f0',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd4971979e8087467140e8be','llm','spare','spare-1',1,0,1,1,'default',1,'','');
INSERT INTO models VALUES(X'01a224d4dd65753f927e4a0f3a91fff0',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd45747e8b433ee7c7ff6479','llm','gpt-4o-mini','',1,1,4,4,'enabled',1,'{"strategy":"weighted-round-robin","max_attempts":3,"attempt_timeout":20000,"first_token_timeout":null,"stream_idle_timeout":null,"connect_timeout":null,"total_timeout":null,"cooldowns":{"rate_limited":90000,"quota_exhausted":null,"authentication":null,"connection":null,"timeout":null,"server_error":null,"model_unavailable":null,"max":null},"wait_when_exhausted":false,"health_check":null}','[["own","spare"]]');
INSERT INTO models VALUES(X'01a224d4dd6972ff9173247f8c147a1c',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd45747e8b433ee7c7ff6479','text-embedding','embed','',1,0,1,1,'default',3,'','');
CREATE TABLE lb_configs (id BLOB PRIMARY KEY NOT NULL,
        tenant_id BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        model_id BLOB NOT NULL REFERENCES models (id) ON DELETE CASCADE,
        ordinal INTEGER NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL,
        credential_id BLOB REFERENCES credentials (id) ON DELETE CASCADE,
        fields TEXT NOT NULL, enabled BOOLEAN NOT NULL, weight INTEGER NOT NULL, priority INTEGER NOT NULL,
        base_url TEXT NOT NULL, upstream_model TEXT NOT NULL, requests_per_minute INTEGER NOT NULL DEFAULT 0, tokens_per_minute INTEGER NOT NULL DEFAULT 0, max_concurrency INTEGER NOT NULL DEFAULT 0, UNIQUE (model_id, ordinal));
INSERT INTO lb_configs VALUES(X'01a224d4dd767575abf7414f3bd02312',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd65753f927e4a0f3a91fff0',1,'predefined-model','',X'01a224d4dd5371eea7ee8467367ddfb0','{}',1,3,0,'','',0,0,0);
INSERT INTO lb_configs VALUES(X'01a224d4dd767575abf741503b485fe7',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd65753f927e4a0f3a91fff0',2,'','inline',NULL,'{"api_key":{"key":"01a224d4-ddc0-7321-841a-36eadced15eb","sealed":"oQrApAICkz6iMr+Yq9piHu2VBSg0xz0DKDmSqIm09qepIVLuUnV9Foh23qfsdyoLCg=="}}',1,1,0,'','gpt-4o-mini-2024',600,100000,10);
INSERT INTO lb_configs VALUES(X'01a224d4dd767575abf74151e3f29632',X'01a224d4dd2570e8bf1221d208681dfd',X'01a224d4dd65753f927e4a0f3a91fff0',3,'','off',NULL,'{"api_key":{"key":"01a224d4-ddc0-7321-841a-36eadced15eb","sealed":"iAM/Yd1XbA4pCwKNk9OFO+htD4CJ0PpflSfdpNOdywOnJIsQVIvo1Z6c96OvMA=="}}',0,1,0,'','',0,0,0);
CREATE TABLE default_models (
        tenant_id BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
        model_type TEXT NOT NULL, model_id BLOB NOT NULL REFERENCES models (id) ON DELETE CASCADE,
        PRIMARY KEY (tenant_id, model_type));
INSERT INTO default_models VALUES(X'01a224d4dd2570e8bf1221d208681dfd','llm',X'01a224d4dd65753f927e4a0f3a91fff0');
CREATE TABLE audit_events (id BLOB PRIMARY KEY NOT NULL, at BIGINT NOT NULL, tenant TEXT NOT NULL,
            action TEXT NOT NULL, resource TEXT NOT NULL, token_id BLOB, actor TEXT NOT NULL, role TEXT NOT NULL,
            before TEXT NOT NULL, after TEXT NOT NULL);
INSERT INTO audit_events VALUES(X'01a224d4777f75eaaa2f3152a225def3',1795914233727,'','CreateToken','token rota_QOKZ1 (first start)',NULL,'command line','','','{"created_at":1795914233722,"expires_at":null,"id":"01a224d4-777e-74ab-8e90-0d8690083cc2","may_read_credentials":false,"name":"first start","prefix":"rota_QOKZ1","role":"operator"}');
INSERT INTO audit_events VALUES(X'01a224d4dd2672a5be1ee6d3fad18cc2',1795914259750,'acme','CreateTenant','tenant acme',X'01a224d4777e74ab8e900d8690083cc2','first start','operator','','{"created_at":1795914259749,"display_name":"Acme","id":"01a224d4-dd25-70e8-bf12-21d208681dfd","name":"acme"}');
INSERT INTO audit_events VALUES(X'01a224d4dd2c71ba84b41aba413766ce',1795914259756,'acme','CreateToken','token rota_G94g0 (admin)',X'01a224d4777e74ab8e900d8690083cc2','first start','operator','','{"created_at":1795914259755,"expires_at":null,"id":"01a224d4-dd2c-71ba-84b4-1ab995944b14","may_read_credentials":false,"name":"admin","prefix":"rota_G94g0","role":"tenant_admin"}');
INSERT INTO audit_events VALUES(X'01a224d4dd2f73ecaf77ddd879b840b4',1795914259759,'acme','CreateToken','token rota_0h0YH (invoker)',X'01a224d4777e74ab8e900d8690083cc2','first start','operator','','{"created_at":1795914259758,"expires_at":null,"id":"01a224d4-dd2e-75c1-b0c5-ee5da3d86979","may_read_credentials":true,"name":"invoker","prefix":"rota_0h0YH","role":"invoker"}');
INSERT INTO audit_events VALUES(X'01a224d4dd45747e8b433ee80b15ad59',1795914259781,'acme','CreateProvider','provider openai',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"base_url":"http://127.0.0.1:9/v1","display_name":"OpenAI","enabled":true,"id":"01a224d4-dd45-747e-8b43-3ee7c7ff6479","kind":"openai","name":"openai","revision":1}');
INSERT INTO audit_events VALUES(X'01a224d4dd4971979e808747ba094f47',1795914259785,'acme','CreateProvider','provider own',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"base_url":"http://127.0.0.1:9/v1","display_name":"","enabled":true,"id":"01a224d4-dd49-7197-9e80-87467140e8be","kind":"openai_compatible","name":"own","revision":1}');
INSERT INTO audit_events VALUES(X'01a224d4dd4e71e8b7efb7f48ed257fc',1795914259790,'acme','CreateCredential','credential first of openai',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"active":true,"fields":{"api_key":"[secret]","organization":"org-1"},"id":"01a224d4-dd4d-7256-b198-a4581f03fb73","model":"","model_type":"","name":"first","revision":1}');
INSERT INTO audit_events VALUES(X'01a224d4dd547760959642515c82a93c',1795914259796,'acme','CreateCredential','credential second of openai',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"active":false,"fields":{"api_key":"[secret]"},"id":"01a224d4-dd53-71ee-a7ee-8467367ddfb0","model":"","model_type":"","name":"second","revision":1}');
INSERT INTO audit_events VALUES(X'01a224d4dd5b73ec845ae9467a86d34c',1795914259803,'acme','PutModel','model own/spare (llm)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"enabled":true,"fallbacks":null,"id":"01a224d4-dd5b-73ec-845a-e9458707b3f0","inherit":"default","lb_enabled":false,"lb_revision":1,"model_type":"llm","name":"spare","next_ordinal":1,"policy":null,"revision":1,"upstream_model":"spare-1"}');
INSERT INTO audit_events VALUES(X'01a224d4dd65753f927e4a1070153655',1795914259813,'acme','PutModel','model openai/gpt-4o-mini (llm)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"enabled":true,"fallbacks":[["own","spare"]],"id":"01a224d4-dd65-753f-927e-4a0f3a91fff0","inherit":"default","lb_enabled":false,"lb_revision":1,"model_type":"llm","name":"gpt-4o-mini","next_ordinal":1,"policy":null,"revision":1,"upstream_model":""}');
INSERT INTO audit_events VALUES(X'01a224d4dd6972ff91732480ed2cb141',1795914259817,'acme','PutModel','model openai/embed (text-embedding)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"enabled":true,"fallbacks":null,"id":"01a224d4-dd69-72ff-9173-247f8c147a1c","inherit":"default","lb_enabled":false,"lb_revision":1,"model_type":"text-embedding","name":"embed","next_ordinal":1,"policy":null,"revision":1,"upstream_model":""}');
INSERT INTO audit_events VALUES(X'01a224d4dd6e74b1b4121400a53f3d16',1795914259822,'acme','CreateCredential','credential of the model of openai/embed',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"active":true,"fields":{"api_key":"[secret]"},"id":"01a224d4-dd6d-775d-8d50-3d7f532570af","model":"embed","model_type":"text-embedding","name":"of the model","revision":1}');
INSERT INTO audit_events VALUES(X'01a224d4dd7874b6bf07571b8491b6f3',1795914259832,'acme','UpdateLoadBalancingConfigs','model openai/gpt-4o-mini (llm)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','{"__inherit__":"default","configs":[]}','{"__inherit__":"enabled","configs":[{"base_url":"","credential_id":"01a224d4-dd53-71ee-a7ee-8467367ddfb0","enabled":true,"fields":{},"id":"01a224d4-dd76-7575-abf7-414f3bd02312","max_concurrency":0,"name":"","ordinal":1,"priority":0,"requests_per_minute":0,"source":"predefined-model","tokens_per_minute":0,"upstream_model":"","weight":3},{"base_url":"","credential_id":null,"enabled":true,"fields":{"api_key":"[secret]"},"id":"01a224d4-dd76-7575-abf7-41503b485fe7","max_concurrency":10,"name":"inline","ordinal":2,"priority":0,"requests_per_minute":600,"source":"","tokens_per_minute":100000,"upstream_model":"gpt-4o-mini-2024","weight":1},{"base_url":"","credential_id":null,"enabled":false,"fields":{"api_key":"[secret]"},"id":"01a224d4-dd76-7575-abf7-4151e3f29632","max_concurrency":0,"name":"off","ordinal":3,"priority":0,"requests_per_minute":0,"source":"","tokens_per_minute":0,"upstream_model":"","weight":1}]}');
INSERT INTO audit_events VALUES(X'01a224d4dd7d70cfbda360cdbdaac8e9',1795914259837,'acme','UpdateBalancingPolicy','model openai/gpt-4o-mini (llm)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','{"attempt_timeout":null,"connect_timeout":null,"cooldowns":{"authentication":null,"connection":null,"max":null,"model_unavailable":null,"quota_exhausted":null,"rate_limited":null,"server_error":null,"timeout":null},"first_token_timeout":null,"health_check":null,"max_attempts":0,"strategy":null,"stream_idle_timeout":null,"total_timeout":null,"wait_when_exhausted":false}','{"attempt_timeout":20000,"connect_timeout":null,"cooldowns":{"authentication":null,"connection":null,"max":null,"model_unavailable":null,"quota_exhausted":null,"rate_limited":90000,"server_error":null,"timeout":null},"first_token_timeout":null,"health_check":null,"max_attempts":3,"strategy":"weighted-round-robin","stream_idle_timeout":null,"total_timeout":null,"wait_when_exhausted":false}');
INSERT INTO audit_events VALUES(X'01a224d4dd83709b82ef50f30df5de12',1795914259843,'acme','EnableModelLoadBalancing','model openai/gpt-4o-mini (llm)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','{"enabled":true,"fallbacks":[["own","spare"]],"id":"01a224d4-dd65-753f-927e-4a0f3a91fff0","inherit":"enabled","lb_enabled":false,"lb_revision":3,"model_type":"llm","name":"gpt-4o-mini","next_ordinal":4,"policy":{"attempt_timeout":20000,"connect_timeout":null,"cooldowns":{"authentication":null,"connection":null,"max":null,"model_unavailable":null,"quota_exhausted":null,"rate_limited":90000,"server_error":null,"timeout":null},"first_token_timeout":null,"health_check":null,"max_attempts":3,"strategy":"weighted-round-robin","stream_idle_timeout":null,"total_timeout":null,"wait_when_exhausted":false},"revision":1,"upstream_model":""}','{"enabled":true,"fallbacks":[["own","spare"]],"id":"01a224d4-dd65-753f-927e-4a0f3a91fff0","inherit":"enabled","lb_enabled":true,"lb_revision":4,"model_type":"llm","name":"gpt-4o-mini","next_ordinal":4,"policy":{"attempt_timeout":20000,"connect_timeout":null,"cooldowns":{"authentication":null,"connection":null,"max":null,"model_unavailable":null,"quota_exhausted":null,"rate_limited":90000,"server_error":null,"timeout":null},"first_token_timeout":null,"health_check":null,"max_attempts":3,"strategy":"weighted-round-robin","stream_idle_timeout":null,"total_timeout":null,"wait_when_exhausted":false},"revision":1,"upstream_model":""}');
INSERT INTO audit_events VALUES(X'01a224d4dd8871b5ad54c81750fe9f86',1795914259848,'acme','SetDefaultModel','model openai/gpt-4o-mini (llm)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','','{"model_id":"01a224d4-dd65-753f-927e-4a0f3a91fff0","model_type":"llm"}');
INSERT INTO audit_events VALUES(X'01a224d4dd9475be98fcf4035974b534',1795914259860,'acme','DisableModel','model openai/embed (text-embedding)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','{"enabled":true,"fallbacks":null,"id":"01a224d4-dd69-72ff-9173-247f8c147a1c","inherit":"default","lb_enabled":false,"lb_revision":1,"model_type":"text-embedding","name":"embed","next_ordinal":1,"policy":null,"revision":1,"upstream_model":""}','{"enabled":false,"fallbacks":null,"id":"01a224d4-dd69-72ff-9173-247f8c147a1c","inherit":"default","lb_enabled":false,"lb_revision":1,"model_type":"text-embedding","name":"embed","next_ordinal":1,"policy":null,"revision":2,"upstream_model":""}');
INSERT INTO audit_events VALUES(X'01a224d4dda3754d9f6002deb8dfe6d5',1795914259875,'acme','EnableModel','model openai/embed (text-embedding)',X'01a224d4dd2c71ba84b41ab995944b14','admin','tenant_admin','{"enabled":false,"fallbacks":null,"id":"01a224d4-dd69-72ff-9173-247f8c147a1c","inherit":"default","lb_enabled":false,"lb_revision":1,"model_type":"text-embedding","name":"embed","next_ordinal":1,"policy":null,"revision":2,"upstream_model":""}','{"enabled":true,"fallbacks":null,"id":"01a224d4-dd69-72ff-9173-247f8c147a1c","inherit":"default","lb_enabled":false,"lb_revision":1,"model_type":"text-embedding","name":"embed","next_ordinal":1,"policy":null,"revision":3,"upstream_model":""}');
INSERT INTO audit_events VALUES(X'01a224d4ddc474059916125b8cb852c0',1795914259908,'acme','RotateTenantKey','tenant acme',X'01a224d4777e74ab8e900d8690083cc2','first start','operator','','');
CREATE INDEX data_keys_tenant ON data_keys (tenant_id);
CREATE INDEX tokens_tenant ON tokens (tenant_id);
CREATE UNIQUE INDEX credentials_active ON credentials (provider_id, model_type, model) WHERE active;
CREATE INDEX credentials_tenant ON credentials (tenant_id);
CREATE INDEX models_tenant ON models (tenant_id);
CREATE INDEX lb_configs_credential ON lb_configs (credential_id);
CREATE INDEX lb_configs_tenant ON lb_configs (tenant_id);
CREATE INDEX default_models_model ON default_models (model_id);
CREATE INDEX audit_events_tenant ON audit_events (tenant, id);
COMMIT;
