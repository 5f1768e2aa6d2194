//! Lists the shapes: a front, the form of the path, and http or https.

use fluxlit_system::front::Program;

/// A way to publish the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) front: Front,
    pub(crate) form: Form,
    pub(crate) is_https: bool,
}

/// What is between the browser and the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// A front as `config --for` prints it.
    Printed(Program),
    /// Varnish; over https, nginx in front of it terminates TLS.
    Varnish,
    /// nginx that asks a login service about each request.
    NginxLogin,
    /// Apache as a client of an OpenID provider.
    ApacheLogin,
}

/// The path of the app, and who removes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    StripPrefix,
    FullPath,
    Root,
    Apps,
}

impl Shape {
    /// Returns every shape.
    pub(crate) fn all() -> Vec<Self> {
        let mut shapes = Vec::new();
        for program in Program::ALL {
            for form in Form::ALL {
                shapes.extend([false, true].map(|is_https| Self {
                    front: Front::Printed(program),
                    form,
                    is_https,
                }));
            }
        }
        for (front, is_https) in [
            (Front::Varnish, false),
            (Front::Varnish, true),
            (Front::NginxLogin, true),
            (Front::ApacheLogin, true),
        ] {
            shapes.push(Self {
                front,
                form: Form::Apps,
                is_https,
            });
        }
        shapes
    }

    /// Returns two shapes of each printed front, so that each form of the path occurs over http and over https, and all shapes
    /// of the others.
    pub(crate) fn half() -> Vec<Self> {
        let mut shapes = Self::all();
        shapes.retain(|shape| {
            let Front::Printed(program) = shape.front else {
                return true;
            };
            let place = |one: &_| one == &program;
            let first = Program::ALL.iter().position(place).unwrap_or_default();
            let shift = if shape.is_https { 0 } else { 2 };
            Form::ALL[(first + shift) % Form::ALL.len()] == shape.form
        });
        shapes
    }

    /// Returns the shapes that `FLUXLIT_TEST_SHAPES` selects: `half`, or those that have each of these words in their names.
    pub(crate) fn selected() -> Vec<Self> {
        let wanted = std::env::var("FLUXLIT_TEST_SHAPES").unwrap_or_default();
        if wanted == "half" {
            return Self::half();
        }
        let mut shapes = Self::all();
        shapes.retain(|shape| {
            let name = shape.name();
            let has = |word| name.split(' ').any(|own| own == word);
            wanted.split_whitespace().all(has)
        });
        assert!(
            !shapes.is_empty(),
            "no shape has the words `{wanted}` in its name; docs/smoke.md lists the names"
        );
        shapes
    }

    /// Returns the name, such as `caddy strip-prefix https`.
    pub(crate) fn name(self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{} {} {scheme}", self.front.name(), self.form.name())
    }
}

impl Front {
    fn name(self) -> &'static str {
        match self {
            Self::Printed(Program::HaproxyRecent) => "haproxy-recent",
            Self::Printed(Program::NginxRecent) => "nginx-recent",
            Self::Printed(program) => program.front(),
            Self::Varnish => "varnish",
            Self::NginxLogin => "nginx-login",
            Self::ApacheLogin => "apache-login",
        }
    }

    pub(crate) fn has_login(self) -> bool {
        matches!(self, Self::NginxLogin | Self::ApacheLogin)
    }
}

impl Form {
    pub(crate) const ALL: [Self; 4] = [Self::StripPrefix, Self::FullPath, Self::Root, Self::Apps];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::StripPrefix => "strip-prefix",
            Self::FullPath => "full-path",
            Self::Root => "root",
            Self::Apps => "apps",
        }
    }

    pub(crate) fn mount(self) -> &'static str {
        match self {
            Self::StripPrefix | Self::FullPath => "/myapp",
            Self::Root => "",
            Self::Apps => "/apps/my-app",
        }
    }

    pub(crate) fn is_stripped(self) -> bool {
        self == Self::StripPrefix
    }
}
