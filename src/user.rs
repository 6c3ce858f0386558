//! The ids of those who call a service, users and API keys. Every layer uses them.

use crate::row_id::row_id;

row_id!(
    /// The id of a user, a row of `public.users`.
    ///
    /// ```
    /// let id: cgk::UserId = "0195f0a0-0000-7000-8000-000000000001".parse()?;
    /// assert_eq!(id.to_string(), "0195f0a0-0000-7000-8000-000000000001");
    /// # Ok::<(), uuid::Error>(())
    /// ```
    UserId
);
row_id!(
    /// The id of an API key, a row of `public.api_keys`.
    ApiKeyId
);
