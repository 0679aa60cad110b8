//! Real servers for tests, found in one order: the one that the environment names; else one that this process starts
//! from programs on this machine; else one in a container, where a Docker engine answers. Where there is none of the
//! three the test fails and says the ways out.

mod container;
pub mod kafka;
pub mod postgres;

use std::fmt;

use self::container::Image;

/// A kind of server, and the ways to one.
#[derive(Debug)]
struct Wanted {
    name: &'static str,
    /// The variable that names one.
    variable: &'static str,
    /// What that variable holds.
    form: &'static str,
    /// How its programs come to this machine.
    programs: &'static str,
    image: Image,
    /// What else may be done, or nothing.
    instead: &'static str,
}

/// A server, and the way it was come by.
#[derive(Debug)]
enum Found<S> {
    Named(String),
    Started(S),
    /// Where it listens.
    Contained(String),
}

/// There is no server of a kind, and why each way to one was closed.
#[derive(Debug)]
struct Missing {
    wanted: &'static Wanted,
    programs: String,
    container: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { name, variable, form, programs, image, instead } = self.wanted;
        writeln!(f, "there is no {name} for this test. One of these:")?;
        writeln!(f, "- {variable} = {form} (it is not set)")?;
        writeln!(f, "- {programs} ({})", self.programs)?;
        write!(f, "- a Docker engine, which runs {image} ({}){instead}", self.container)
    }
}

impl Wanted {
    /// The server. `start` says what is missing where there are no programs, and panics where they are there and fail.
    ///
    /// # Panics
    /// There is none: the message names the ways out.
    fn find<S>(&'static self, start: impl FnOnce() -> Result<S, String>) -> Found<S> {
        let named = std::env::var(self.variable).ok();
        let contain = || container::start(&self.image);
        self.resolve(named, start, contain).unwrap_or_else(|missing| panic!("{missing}"))
    }

    fn resolve<S>(
        &'static self,
        named: Option<String>,
        start: impl FnOnce() -> Result<S, String>,
        contain: impl FnOnce() -> Result<String, String>,
    ) -> Result<Found<S>, Missing> {
        if let Some(named) = named {
            return Ok(Found::Named(named));
        }
        let programs = match start() {
            Ok(started) => return Ok(Found::Started(started)),
            Err(missing) => missing,
        };
        contain().map(Found::Contained).map_err(|container| Missing { wanted: self, programs, container })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static WANTED: &Wanted = &kafka::WANTED;

    fn started() -> Result<u8, String> {
        Ok(1)
    }

    fn no_programs() -> Result<u8, String> {
        Err("no Java".into())
    }

    fn no_engine() -> Result<String, String> {
        Err("nobody answers".into())
    }

    #[test]
    fn the_first_way_that_is_open_is_taken_and_no_later_one_tried() {
        let never = || -> Result<u8, String> { panic!("programs were looked for") };
        let nor = || -> Result<String, String> { panic!("an engine was looked for") };
        assert!(
            matches!(WANTED.resolve(Some("h:1".into()), never, nor), Ok(Found::Named(at)) if at == "h:1")
        );
        assert!(matches!(WANTED.resolve(None, started, nor), Ok(Found::Started(1))));
        let contained = WANTED.resolve(None, no_programs, || Ok("h:2".into()));
        assert!(matches!(contained, Ok(Found::Contained(at)) if at == "h:2"));
    }

    #[test]
    fn where_none_is_open_all_three_are_named_with_what_closed_them() {
        for wanted in [WANTED, &postgres::WANTED] {
            let text = wanted.resolve(None, no_programs, no_engine).expect_err("none is open").to_string();
            for part in [wanted.variable, wanted.programs, "no Java", "Docker", "nobody answers"] {
                assert!(text.contains(part), "{part} is not in:\n{text}");
            }
        }
    }
}
