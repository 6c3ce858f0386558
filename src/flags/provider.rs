//! An OpenFeature provider, so that an application can use that interface instead of cgk's.

use super::{
    Flags,
    environment::Environment,
    error::FlagsError,
    evaluate::{Evaluation, Reason},
    evaluation_log::EvaluationLog,
    subject::{Attribute, Subject},
};
use crate::{context::TenantContext, error::ErrorKind, slug::TenantSlug};
use open_feature::{
    EvaluationContext, EvaluationContextFieldValue, EvaluationError, EvaluationErrorCode, EvaluationReason,
    EvaluationResult, FlagMetadata, StructValue, Value, async_trait,
    provider::{FeatureProvider, ProviderMetadata, ResolutionDetails},
};

/// An OpenFeature provider for the features of tenants, for applications that use the crate `open-feature`.
///
/// The targeting key and the custom fields of the evaluation context become the key and the attributes of the
/// [`Subject`]. A time becomes the number of seconds since 1970. A structure is ignored. The variant is `on` or `off`.
///
/// | reason of cgk | reason of OpenFeature |
/// |---|---|
/// | [`Reason::Default`] | `STATIC` |
/// | [`Reason::Rule`] | `TARGETING_MATCH` |
/// | [`Reason::Rollout`] | `SPLIT` |
/// | [`Reason::Plan`] | `PLAN` |
/// | [`Reason::Disabled`] | `DISABLED` |
/// | [`Reason::TargetingKeyMissing`] | the error `TARGETING_KEY_MISSING`: the caller's default is used |
///
/// ```no_run
/// # async fn example(db: cgk::Db, acme: cgk::TenantSlug) {
/// use cgk::flags::{Environment, FlagProvider, Flags, FlagsSettings, Stage};
/// use open_feature::{EvaluationContext, OpenFeature};
///
/// let flags = Flags::new(&db, FlagsSettings::default());
/// let mut api = OpenFeature::singleton_mut().await;
/// api.set_provider(FlagProvider::of_context(&flags, Environment::of(Stage::Prod))).await;
/// let client = api.create_client();
///
/// // In a request, inside its TenantContext:
/// let ada = EvaluationContext::default().with_targeting_key("user-7").with_custom_field("email", "ada@example.com");
/// let is_on = client.get_bool_value("new_checkout", Some(&ada), None).await.unwrap_or(false);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FlagProvider {
    flags: Flags,
    environment: Environment,
    /// `None`: the tenant of the caller's context.
    tenant: Option<TenantSlug>,
    log: Option<EvaluationLog>,
    metadata: ProviderMetadata,
}

impl FlagProvider {
    /// Creates a provider for the features of one tenant, for a named client (`set_named_provider`).
    pub fn of_tenant(flags: &Flags, environment: Environment, tenant: &TenantSlug) -> Self {
        Self { tenant: Some(tenant.clone()), ..Self::of_context(flags, environment) }
    }

    /// Creates a provider for the tenant of the caller's [`TenantContext`]. Outside of a context, every evaluation
    /// returns the error `INVALID_CONTEXT`.
    pub fn of_context(flags: &Flags, environment: Environment) -> Self {
        let metadata = ProviderMetadata::new("cgk");
        Self { flags: flags.clone(), environment, tenant: None, log: None, metadata }
    }

    /// Sets a log, to which a sample of the evaluations is written.
    pub fn with_log(mut self, log: &EvaluationLog) -> Self {
        self.log = Some(log.clone());
        self
    }

    async fn resolve<T>(
        &self,
        key: &str,
        context: &EvaluationContext,
        convert: impl Fn(&serde_json::Value) -> Option<T> + Send,
    ) -> EvaluationResult<ResolutionDetails<T>> {
        let slug = match &self.tenant {
            Some(slug) => slug.clone(),
            None => TenantContext::current().map_err(|error| invalid(error.to_string()))?.slug.clone(),
        };
        let snapshot = self.flags.snapshot(&slug, &self.environment).await.map_err(unanswered)?;
        let subject = subject(context);
        let evaluation = snapshot.evaluate(key, &subject).ok_or_else(|| code(EvaluationErrorCode::FlagNotFound))?;
        if let Some(log) = &self.log {
            log.record(&slug, &self.environment, key, &subject, &evaluation);
        }
        self.details(&evaluation, convert)
    }

    fn details<T>(
        &self,
        evaluation: &Evaluation<'_>,
        convert: impl Fn(&serde_json::Value) -> Option<T>,
    ) -> EvaluationResult<ResolutionDetails<T>> {
        let reason = match evaluation.reason {
            Reason::Default => EvaluationReason::Static,
            Reason::Rule => EvaluationReason::TargetingMatch,
            Reason::Rollout => EvaluationReason::Split,
            Reason::Plan => EvaluationReason::Other("PLAN".into()),
            Reason::Disabled => EvaluationReason::Disabled,
            Reason::TargetingKeyMissing => return Err(code(EvaluationErrorCode::TargetingKeyMissing)),
        };
        let value = convert(evaluation.value).ok_or_else(|| code(EvaluationErrorCode::TypeMismatch))?;
        Ok(ResolutionDetails {
            value,
            variant: Some(if evaluation.is_on { "on" } else { "off" }.into()),
            reason: Some(reason),
            flag_metadata: Some(FlagMetadata::default().with_value("environment", self.environment.to_string())),
        })
    }
}

#[async_trait]
impl FeatureProvider for FlagProvider {
    fn metadata(&self) -> &ProviderMetadata {
        &self.metadata
    }

    async fn resolve_bool_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<bool>> {
        self.resolve(flag_key, evaluation_context, serde_json::Value::as_bool).await
    }

    async fn resolve_int_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<i64>> {
        self.resolve(flag_key, evaluation_context, serde_json::Value::as_i64).await
    }

    async fn resolve_float_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<f64>> {
        self.resolve(flag_key, evaluation_context, serde_json::Value::as_f64).await
    }

    async fn resolve_string_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<String>> {
        self.resolve(flag_key, evaluation_context, |value| value.as_str().map(ToOwned::to_owned)).await
    }

    async fn resolve_struct_value(
        &self,
        flag_key: &str,
        evaluation_context: &EvaluationContext,
    ) -> EvaluationResult<ResolutionDetails<StructValue>> {
        let structure = |value: &serde_json::Value| match open_feature_value(value)? {
            Value::Struct(fields) => Some(fields),
            _ => None,
        };
        self.resolve(flag_key, evaluation_context, structure).await
    }
}

fn subject(context: &EvaluationContext) -> Subject {
    let subject = context.targeting_key.as_deref().map_or_else(Subject::anonymous, Subject::new);
    context.custom_fields.iter().fold(subject, |subject, (name, value)| {
        let value: Attribute = match value {
            EvaluationContextFieldValue::Bool(value) => (*value).into(),
            EvaluationContextFieldValue::Int(value) => (*value).into(),
            EvaluationContextFieldValue::Float(value) => (*value).into(),
            EvaluationContextFieldValue::String(value) => value.as_str().into(),
            EvaluationContextFieldValue::DateTime(value) => value.unix_timestamp().into(),
            EvaluationContextFieldValue::Struct(_) => return subject,
        };
        subject.with(name.as_str(), value)
    })
}

/// OpenFeature has no null. In a structure the field is omitted; elsewhere there is no replacement.
fn open_feature_value(value: &serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64()?),
        },
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Array(values) => {
            Value::Array(values.iter().map(open_feature_value).collect::<Option<Vec<_>>>()?)
        }
        serde_json::Value::Object(members) => {
            let fields = members.iter().filter(|(_, value)| !value.is_null());
            let fields = fields.map(|(name, value)| Some((name.clone(), open_feature_value(value)?)));
            Value::Struct(StructValue { fields: fields.collect::<Option<_>>()? })
        }
    })
}

fn code(code: EvaluationErrorCode) -> EvaluationError {
    EvaluationError { code, message: None }
}

fn invalid(message: String) -> EvaluationError {
    EvaluationError { code: EvaluationErrorCode::InvalidContext, message: Some(message) }
}

fn unanswered(error: FlagsError) -> EvaluationError {
    match &error {
        FlagsError::Database(source) if source.kind() == ErrorKind::NotFound => invalid(source.to_string()),
        _ => EvaluationError { code: EvaluationErrorCode::General("GENERAL".into()), message: Some(error.to_string()) },
    }
}
