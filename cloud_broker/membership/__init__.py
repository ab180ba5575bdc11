"""Who belongs to a fleet: certificates, tokens, enrolment, revocation."""
