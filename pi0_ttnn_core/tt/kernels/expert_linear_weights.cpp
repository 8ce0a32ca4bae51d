// Reads each unit's columns of the weight, and what its results are combined with. See ../expert_linear.py.

#include <cstdint>

#include "api/dataflow/dataflow_api.h"

constexpr uint32_t rows = get_named_compile_time_arg_val("rows");
constexpr uint32_t row_blocks = get_named_compile_time_arg_val("row_blocks");
constexpr uint32_t inner = get_named_compile_time_arg_val("inner");
constexpr uint32_t inner_block = get_named_compile_time_arg_val("inner_block");
constexpr uint32_t weight_width = get_named_compile_time_arg_val("weight_width");    // tiles
constexpr uint32_t out_width = get_named_compile_time_arg_val("out_width");          // tiles
constexpr uint32_t weight_columns = get_named_compile_time_arg_val("weight_columns");  // tiles of a unit: 1 or 2
constexpr uint32_t group = get_named_compile_time_arg_val("group");                // units whose first columns are neighbours
constexpr uint32_t group_stride = get_named_compile_time_arg_val("group_stride");  // tiles from one group to the next
constexpr uint32_t pair_stride = get_named_compile_time_arg_val("pair_stride");    // tiles from the first column to the second
constexpr uint32_t rotary_width = get_named_compile_time_arg_val("rotary_width");  // tiles of a row of the tables
constexpr uint32_t first_inner = get_named_compile_time_arg_val("first_inner");    // tile of the weight's inner axis
constexpr bool transposed = get_named_compile_time_arg_val("transposed");          // the inner axis is the weight's last
constexpr bool has_bias = get_named_compile_time_arg_val("has_bias");
constexpr bool has_rotary = get_named_compile_time_arg_val("has_rotary");
constexpr bool has_gate = get_named_compile_time_arg_val("has_gate");
constexpr bool has_residual = get_named_compile_time_arg_val("has_residual");

constexpr uint32_t cb_weight = 1, cb_operands = 2;
constexpr uint32_t operands = has_bias * weight_columns + has_rotary * 2 * rows + has_gate + has_residual * rows;

constexpr auto weight_args = TensorAccessorArgs<0>();
constexpr auto bias_args = TensorAccessorArgs<weight_args.next_compile_time_args_offset()>();
constexpr auto cos_args = TensorAccessorArgs<bias_args.next_compile_time_args_offset()>();
constexpr auto sin_args = TensorAccessorArgs<cos_args.next_compile_time_args_offset()>();
constexpr auto gate_args = TensorAccessorArgs<sin_args.next_compile_time_args_offset()>();
constexpr auto residual_args = TensorAccessorArgs<gate_args.next_compile_time_args_offset()>();

void kernel_main() {
    const uint32_t first_unit = get_arg_val<uint32_t>(0);
    const uint32_t units = get_arg_val<uint32_t>(1);
    const auto weight = TensorAccessor(weight_args, get_arg_val<uint32_t>(2));
    const auto bias = TensorAccessor(bias_args, get_arg_val<uint32_t>(3));
    const auto cos = TensorAccessor(cos_args, get_arg_val<uint32_t>(4));
    const auto sin = TensorAccessor(sin_args, get_arg_val<uint32_t>(5));
    const auto gate = TensorAccessor(gate_args, get_arg_val<uint32_t>(6));
    const auto residual = TensorAccessor(residual_args, get_arg_val<uint32_t>(7));
    constexpr uint32_t block = inner_block * weight_columns;
    const uint32_t weight_tile_size = get_tile_size(cb_weight);
    const uint32_t operand_tile_size = get_tile_size(cb_operands);

    for (uint32_t first_row = 0; first_row < rows * row_blocks; first_row += rows) {
        for (uint32_t unit = first_unit; unit < first_unit + units; ++unit) {
            const uint32_t first_column = unit / group * group_stride + unit % group;
            for (uint32_t k = 0; k < inner; k += inner_block) {
                cb_reserve_back(cb_weight, block);
                uint32_t address = get_write_ptr(cb_weight);
                for (uint32_t row = k; row < k + inner_block; ++row) {
                    for (uint32_t column = 0; column < weight_columns; ++column) {
                        const uint32_t inner_tile = first_inner + row, outer_tile = first_column + column * pair_stride;
                        const uint32_t tile = transposed ? outer_tile * weight_width + inner_tile
                                                         : inner_tile * weight_width + outer_tile;
                        noc_async_read_page(tile, weight, address);
                        address += weight_tile_size;
                    }
                }
                noc_async_read_barrier();
                cb_push_back(cb_weight, block);
            }
            if constexpr (operands > 0) {
                cb_reserve_back(cb_operands, operands);
                uint32_t address = get_write_ptr(cb_operands);
                const auto read = [&](const auto& from, uint32_t tile) {
                    noc_async_read_page(tile, from, address);
                    address += operand_tile_size;
                };
                if constexpr (has_bias) {
                    for (uint32_t column = 0; column < weight_columns; ++column) {
                        read(bias, first_column + column * pair_stride);
                    }
                }
                if constexpr (has_rotary) {
                    for (uint32_t row = 0; row < rows; ++row) {
                        const uint32_t tile = (first_row + row) * rotary_width + unit % group;
                        read(cos, tile);
                        read(sin, tile);
                    }
                }
                if constexpr (has_gate) {
                    read(gate, unit);
                }
                if constexpr (has_residual) {
                    for (uint32_t row = 0; row < rows; ++row) {
                        read(residual, (first_row + row) * out_width + unit);
                    }
                }
                noc_async_read_barrier();
                cb_push_back(cb_operands, operands);
            }
        }
    }
}
