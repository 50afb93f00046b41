/* millgatectl greylist show|forget. */
#ifndef POLICY_GREYLIST_COMMAND_H
#define POLICY_GREYLIST_COMMAND_H

#include "policy/service.h"

policy_command_f greylist_command;

#endif
