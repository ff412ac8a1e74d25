//! The kernels that there are, by their lines.

use std::fmt;

use clap::ValueEnum;

use crate::versions::TESTING;

/// A line of Linux that Debian has a kernel of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    /// The oldest that is supported: the first with `bpf_redirect_peer`.
    #[value(name = "5.10")]
    V5_10,
    /// Before TCX.
    #[value(name = "6.1")]
    V6_1,
    /// With TCX.
    #[value(name = "6.12")]
    V6_12,
    /// The newest.
    #[value(name = "7.2")]
    V7_2,
}

impl Version {
    /// Those that all tests are run on.
    pub(crate) const DEFAULT: [Self; 2] = [Self::V5_10, Self::V6_12];

    /// The Debian suite that has it.
    pub(super) const fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::V7_2 => TESTING,
        }
    }

    /// As it begins in names of packages.
    pub(super) const fn number(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}
