/* millgatectl list add|remove|show. */
#ifndef POLICY_ACCESS_LIST_COMMAND_H
#define POLICY_ACCESS_LIST_COMMAND_H

#include "policy/service.h"

/* Of a key in the store: "list:{NAME}:entry". */
#define ACCESS_KEY_SIZE 480

policy_command_f access_list_command;

#endif
