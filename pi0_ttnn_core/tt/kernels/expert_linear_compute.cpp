// norm(input) @ weight, then what follows it, in float32 without leaving the registers. See ../expert_linear.py.
//
// Registers: the products first, row by row, then four for operands.

#include <cstdint>

#include "api/compute/common.h"
#include "api/compute/compute_kernel_api.h"
#include "api/compute/compute_kernel_hw_startup.h"
#include "api/compute/eltwise_binary.h"
#include "api/compute/eltwise_binary_sfpu.h"
#include "api/compute/eltwise_unary/binop_with_scalar.h"
#include "api/compute/eltwise_unary/eltwise_unary.h"
#include "api/compute/eltwise_unary/gelu.h"
#include "api/compute/eltwise_unary/rsqrt.h"
#include "api/compute/matmul.h"
#include "api/compute/reconfig_data_format.h"
#include "api/compute/tile_move_copy.h"

constexpr uint32_t rows = get_named_compile_time_arg_val("rows");
constexpr uint32_t row_blocks = get_named_compile_time_arg_val("row_blocks");
constexpr uint32_t inner = get_named_compile_time_arg_val("inner");
constexpr uint32_t inner_block = get_named_compile_time_arg_val("inner_block");
constexpr uint32_t weight_columns = get_named_compile_time_arg_val("weight_columns");
constexpr uint32_t columns = get_named_compile_time_arg_val("columns");
constexpr uint32_t rotated_units = get_named_compile_time_arg_val("rotated_units");  // queries and keys; values come after
constexpr uint32_t inverse_width = get_named_compile_time_arg_val("inverse_width");  // float32 bits of 1 / width
constexpr uint32_t epsilon = get_named_compile_time_arg_val("epsilon");              // float32 bits
constexpr uint32_t transposed = get_named_compile_time_arg_val("transposed");        // 1: tiles of the weight are turned
constexpr bool has_norm = get_named_compile_time_arg_val("has_norm");
constexpr bool has_scale = get_named_compile_time_arg_val("has_scale");
constexpr bool has_bias = get_named_compile_time_arg_val("has_bias");
constexpr bool has_rotary = get_named_compile_time_arg_val("has_rotary");
constexpr bool has_geglu = get_named_compile_time_arg_val("has_geglu");
constexpr bool has_gate = get_named_compile_time_arg_val("has_gate");
constexpr bool has_residual = get_named_compile_time_arg_val("has_residual");

constexpr uint32_t cb_input = 0, cb_weight = 1, cb_operands = 2, cb_ones = 3, cb_scale = 4;
constexpr uint32_t cb_squares = 5, cb_inverse_rms = 6, cb_scaled = 7, cb_out = 16;
constexpr uint32_t cb_factor = has_scale ? cb_scaled : cb_input;
constexpr uint32_t operands = has_bias * weight_columns + has_rotary * 2 * rows + has_gate + has_residual * rows;
constexpr uint32_t products = rows * weight_columns;
constexpr uint32_t spare = products;

void pack(uint32_t cb, uint32_t first, uint32_t count, uint32_t stride) {
    tile_regs_commit();
    cb_reserve_back(cb, count);
    pack_reconfig_data_format(cb);
    tile_regs_wait();
    for (uint32_t i = 0; i < count; ++i) {
        pack_tile(first + i * stride, cb);
    }
    tile_regs_release();
    cb_push_back(cb, count);
}

// 1 / rms of each row, in every column of a tile.
void compute_inverse_rms() {
    tile_regs_acquire();
    reconfig_data_format(cb_input, cb_input);
    mul_init(cb_input, cb_input);
    for (uint32_t k = 0; k < inner; ++k) {
        cb_wait_front(cb_input, rows * (k / inner_block + 1) * inner_block);
        for (uint32_t row = 0; row < rows; ++row) {
            mul_tiles(cb_input, cb_input, k * rows + row, k * rows + row, row);
        }
    }
    pack(cb_squares, 0, rows, 1);

    cb_wait_front(cb_squares, rows);
    cb_wait_front(cb_ones, 1);
    tile_regs_acquire();
    reconfig_data_format(cb_ones, cb_squares);
    matmul_init(cb_squares, cb_ones);
    for (uint32_t row = 0; row < rows; ++row) {
        matmul_tiles(cb_squares, cb_ones, row, 0, row);
    }
    for (uint32_t row = 0; row < rows; ++row) {
        binop_with_scalar_tile_init();
        mul_unary_tile(row, inverse_width);
        add_unary_tile(row, epsilon);
        rsqrt_tile_init();
        rsqrt_tile(row);
    }
    cb_pop_front(cb_squares, rows);
    pack(cb_inverse_rms, 0, rows, 1);
    cb_wait_front(cb_inverse_rms, rows);
}

void scale_input() {
    cb_wait_front(cb_scale, inner);
    reconfig_data_format(cb_input, cb_scale);
    for (uint32_t k = 0; k < inner; ++k) {
        cb_wait_front(cb_input, rows * (k / inner_block + 1) * inner_block);
        tile_regs_acquire();
        mul_init(cb_input, cb_scale);
        for (uint32_t row = 0; row < rows; ++row) {
            mul_tiles(cb_input, cb_scale, k * rows + row, k, row);
        }
        pack(cb_scaled, 0, rows, 1);
    }
    cb_wait_front(cb_scaled, rows * inner);
}

void multiply() {
    reconfig_data_format(cb_weight, cb_factor);
    matmul_block_init(cb_factor, cb_weight, transposed, weight_columns, rows, 1);
    for (uint32_t block = 0; block < inner; block += inner_block) {
        cb_wait_front(cb_factor, rows * (block + inner_block));
        cb_wait_front(cb_weight, weight_columns * inner_block);
        for (uint32_t k = 0; k < inner_block; ++k) {
            matmul_block(
                cb_factor, cb_weight, (block + k) * rows, k * weight_columns, 0, transposed, weight_columns, rows, 1);
        }
        cb_pop_front(cb_weight, weight_columns * inner_block);
    }
}

void load(uint32_t cb, uint32_t tile, uint32_t to) {
    copy_init(cb);
    copy_tile(cb, tile, to);
}

// What each product is multiplied with or added to comes from a buffer; `load` moves it to the register `spare`.
void multiply_products(uint32_t row, uint32_t column) {
    const uint32_t product = row * weight_columns + column;
    mul_binary_tile_init();
    mul_binary_tile(product, spare, product);
}

void add_to_product(uint32_t row, uint32_t column) {
    const uint32_t product = row * weight_columns + column;
    add_binary_tile_init();
    add_binary_tile(product, spare, product);
}

// (a, b) -> (a cos - b sin, b cos + a sin): the two halves of a head.
void rotate(uint32_t row, uint32_t tile) {
    const uint32_t first = row * weight_columns, second = first + 1;
    const uint32_t cos = spare, sin = spare + 1, first_sin = spare + 2, second_sin = spare + 3;
    load(cb_operands, tile, cos);
    load(cb_operands, tile + 1, sin);
    mul_binary_tile_init();
    mul_binary_tile(first, sin, first_sin);
    mul_binary_tile(second, sin, second_sin);
    mul_binary_tile(first, cos, first);
    mul_binary_tile(second, cos, second);
    sub_binary_tile_init();
    sub_binary_tile(first, second_sin, first);
    add_binary_tile_init();
    add_binary_tile(second, first_sin, second);
}

void finish(uint32_t unit) {
    if constexpr (has_norm) {
        reconfig_data_format_srca(cb_inverse_rms);
        for (uint32_t row = 0; row < rows; ++row) {
            load(cb_inverse_rms, row, spare);
            for (uint32_t column = 0; column < weight_columns; ++column) {
                multiply_products(row, column);
            }
        }
    }
    if constexpr (operands > 0) {
        uint32_t tile = 0;
        cb_wait_front(cb_operands, operands);
        reconfig_data_format_srca(cb_operands);
        if constexpr (has_bias) {
            for (uint32_t column = 0; column < weight_columns; ++column) {
                load(cb_operands, tile++, spare);
                for (uint32_t row = 0; row < rows; ++row) {
                    add_to_product(row, column);
                }
            }
        }
        if constexpr (has_rotary) {
            for (uint32_t row = 0; unit < rotated_units && row < rows; ++row) {
                rotate(row, tile + 2 * row);
            }
            tile += 2 * rows;
        }
        if constexpr (has_gate) {
            load(cb_operands, tile++, spare);
            for (uint32_t row = 0; row < rows; ++row) {
                multiply_products(row, 0);
            }
        }
        if constexpr (has_residual) {
            for (uint32_t row = 0; row < rows; ++row) {
                load(cb_operands, tile++, spare);
                add_to_product(row, 0);
            }
        }
        cb_pop_front(cb_operands, operands);
    }
    if constexpr (has_geglu) {
        for (uint32_t row = 0; row < rows; ++row) {
            const uint32_t gate = row * weight_columns, up = gate + 1;
            gelu_tanh_tile_init();
            gelu_tanh_tile(gate);
            mul_binary_tile_init();
            mul_binary_tile(gate, up, gate);
        }
    }
}

void kernel_main() {
    const uint32_t first_unit = get_arg_val<uint32_t>(0);
    const uint32_t units = get_arg_val<uint32_t>(1);

    compute_kernel_hw_startup<SrcOrder::Reverse>(cb_factor, cb_weight, cb_out);
    matmul_init(cb_factor, cb_weight);
    for (uint32_t block = 0; block < row_blocks; ++block) {
        if constexpr (has_norm) {
            compute_inverse_rms();
        }
        if constexpr (has_scale) {
            scale_input();
        }
        for (uint32_t unit = first_unit; unit < first_unit + units; ++unit) {
            tile_regs_acquire();
            multiply();
            finish(unit);
            pack(cb_out, 0, rows * columns, weight_columns / columns);
        }
        cb_pop_front(cb_input, rows * inner);
        if constexpr (has_scale) {
            cb_pop_front(cb_scaled, rows * inner);
        }
        if constexpr (has_norm) {
            cb_pop_front(cb_inverse_rms, rows);
        }
    }
}
