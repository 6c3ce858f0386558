//! The id of a user, which every layer uses.

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
