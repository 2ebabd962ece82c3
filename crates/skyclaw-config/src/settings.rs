//! How a bin states its settings: once each, in a table that is also its struct.

use crate::error::Error;
use crate::layers::Layers;

/// One setting, as [`settings!`](crate::settings!) wrote it into a table.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file; with dashes for underscores it is its flag.
    pub key: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// What it is when nobody says anything, as it would stand in the variable.
    pub default: Option<&'static str>,
    /// What is allowed.
    pub allowed: &'static str,
    /// Whether it must not be shown. A secret has no flag, for every user of a machine sees flags.
    pub secret: bool,
    /// What it is for.
    pub help: &'static str,
}

/// A struct of settings with its table.
pub trait Settings: Sized {
    /// All settings, in the order they are shown in.
    const TABLE: &'static [Setting];

    /// Reads every setting.
    ///
    /// # Errors
    /// The first one that is missing or not allowed.
    fn read(layers: &mut Layers<'_>) -> Result<Self, Error>;
}

/// States the settings of a bin: a struct, each field with its doc, its type (a
/// [`Field`](crate::Field)), perhaps its default as it would stand in the variable, and its variable.
///
/// ```
/// skyclaw_config::settings! {
///     /// What the example is told at its start.
///     pub struct Example {
///         /// The port to listen on; 0 takes any that is free.
///         port: u16 = "8787", env "EXAMPLE_PORT";
///         /// The shared token.
///         token: Option<skyclaw_config::Secret>, env "EXAMPLE_TOKEN";
///     }
/// }
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $help:literal])+ $key:ident : $type:ty $(= $default:literal)?, env $env:literal; )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $name { $( $(#[doc = $help])+ pub $key: $type, )+ }

        impl $crate::Settings for $name {
            const TABLE: &'static [$crate::Setting] = &[$( $crate::Setting {
                key: stringify!($key),
                env: $env,
                default: $crate::settings!(@default $($default)?),
                allowed: <$type as $crate::Field>::ALLOWED,
                secret: <$type as $crate::Field>::SECRET,
                help: concat!($($help),+),
            } ),+];

            fn read(layers: &mut $crate::Layers<'_>) -> Result<Self, $crate::Error> {
                Ok(Self { $( $key: layers.read(stringify!($key))?, )+ })
            }
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}
