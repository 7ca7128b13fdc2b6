// SPDX-License-Identifier: Apache-2.0
#pragma once
#define PD_API extern "C" __attribute__((visibility("default")))
