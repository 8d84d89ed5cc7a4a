"""The screens, one module and one style sheet each; they know widgets and the session, not each other."""
