/*
 * Commands of millgatectl about what is counted: "limit show", "limit show
 * NAME", "limit show NAME KEY", "limit reset NAME KEY", and the same of
 * concurrency.  A key of several parts is as many words.
 */
#ifndef POLICY_LIMIT_COMMAND_H
#define POLICY_LIMIT_COMMAND_H

#include "policy/service.h"

/* The first word is also what the keys in the store begin with. */
policy_command_f limit_command;

#endif
