//! What a context may do: one table, one pure function. What another project has is not there, rather than forbidden, so that
//! nobody learns which ids exist.

use super::{Context, Role};

/// Something a request does. `name` is what the field calls it, and what a refusal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// Such as `volume:create`.
    pub name: &'static str,
    /// Who may.
    pub rule: Rule,
}

/// Who may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Everybody with a role in the owning project, and administrators.
    Read,
    /// Members of the owning project, and administrators.
    Write,
    /// Administrators.
    Admin,
    /// Services of the cloud, and administrators.
    Service,
}

impl Action {
    /// To look at something a project has.
    pub const fn read(name: &'static str) -> Self {
        Self { name, rule: Rule::Read }
    }

    /// To make or change something a project has.
    pub const fn write(name: &'static str) -> Self {
        Self { name, rule: Rule::Write }
    }

    /// To do what concerns all projects.
    pub const fn admin(name: &'static str) -> Self {
        Self { name, rule: Rule::Admin }
    }

    /// To do what only another service of the cloud has to do.
    pub const fn service(name: &'static str) -> Self {
        Self { name, rule: Rule::Service }
    }
}

/// What comes of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// As if it were not there.
    NotFound,
    /// Refused.
    Forbidden,
}

/// Whether `context` may do `action` to what belongs to `owner`; `None` belongs to nobody, or is not made yet.
pub fn decide(context: &Context, action: Action, owner: Option<&str>) -> Decision {
    let admin = context.is_admin();
    if !admin && owner.is_some_and(|owner| owner != context.project_id) {
        return Decision::NotFound;
    }
    let allowed = match action.rule {
        Rule::Read => context.roles.include(Role::Reader) || context.roles.include(Role::Service),
        Rule::Write => context.roles.include(Role::Member) || context.roles.include(Role::Service),
        Rule::Admin => admin,
        Rule::Service => admin || context.by_service || context.roles.include(Role::Service),
    };
    if allowed { Decision::Allow } else { Decision::Forbidden }
}

#[cfg(test)]
mod tests {
    use super::super::Roles;
    use super::*;

    fn context(project: &str, roles: &[&str]) -> Context {
        Context {
            user_id: "u".into(),
            project_id: project.into(),
            roles: Roles::of(roles.iter().copied()),
            by_service: false,
            token: crate::secret::Secret::new(String::new()),
            request_id: "req".into(),
        }
    }

    #[test]
    fn what_another_project_has_is_not_there_whatever_is_asked() {
        for rule in [Rule::Read, Rule::Write, Rule::Admin, Rule::Service] {
            for roles in [&["member"][..], &["reader"], &["service"], &[]] {
                let decision = decide(&context("a", roles), Action { name: "x", rule }, Some("b"));
                assert_eq!(decision, Decision::NotFound, "{rule:?} {roles:?}");
            }
            assert_eq!(decide(&context("a", &["admin"]), Action { name: "x", rule }, Some("b")), Decision::Allow);
        }
    }

    #[test]
    fn roles_imply_the_lesser_ones_and_an_unknown_one_nothing() {
        for (roles, read, write, admin) in [
            (&["admin"][..], true, true, true),
            (&["manager"], true, true, false),
            (&["member"], true, true, false),
            (&["reader"], true, false, false),
            (&["cleaner"], false, false, false),
        ] {
            let context = context("a", roles);
            for (action, allowed) in [(Action::read("r"), read), (Action::write("w"), write), (Action::admin("a"), admin)] {
                let expected = if allowed { Decision::Allow } else { Decision::Forbidden };
                assert_eq!(decide(&context, action, Some("a")), expected, "{roles:?} {}", action.name);
            }
        }
    }

    #[test]
    fn a_service_token_lets_a_member_do_what_services_do() {
        let mut context = context("a", &["member"]);
        assert_eq!(decide(&context, Action::service("s"), Some("a")), Decision::Forbidden);
        context.by_service = true;
        assert_eq!(decide(&context, Action::service("s"), Some("a")), Decision::Allow);
        assert_eq!(decide(&context, Action::service("s"), Some("b")), Decision::NotFound);
    }
}
