// Reads the input (once for all units of this core) and writes the results. See ../expert_linear.py.

#include <cstdint>

#include "api/dataflow/dataflow_api.h"

constexpr uint32_t rows = get_named_compile_time_arg_val("rows");                  // row tiles of one block
constexpr uint32_t row_blocks = get_named_compile_time_arg_val("row_blocks");      // blocks of the input
constexpr uint32_t inner = get_named_compile_time_arg_val("inner");                // tiles of the input's width
constexpr uint32_t inner_block = get_named_compile_time_arg_val("inner_block");    // a divisor of inner
constexpr uint32_t head_width = get_named_compile_time_arg_val("head_width");      // tiles; inner where there are no heads
constexpr uint32_t columns = get_named_compile_time_arg_val("columns");            // result tiles of a unit
constexpr uint32_t out_width = get_named_compile_time_arg_val("out_width");        // tiles; without heads
constexpr uint32_t half_head = get_named_compile_time_arg_val("half_head");        // tiles, with heads
constexpr uint32_t query_heads = get_named_compile_time_arg_val("query_heads");    // 0 without heads
constexpr uint32_t kv_heads = get_named_compile_time_arg_val("kv_heads");
constexpr uint32_t cache_rows = get_named_compile_time_arg_val("cache_rows");      // row tiles of the KV cache
constexpr uint32_t cache_start = get_named_compile_time_arg_val("cache_start");    // row tile where the own keys begin
constexpr bool has_norm = get_named_compile_time_arg_val("has_norm");
constexpr bool has_scale = get_named_compile_time_arg_val("has_scale");

constexpr uint32_t cb_input = 0, cb_ones = 3, cb_scale = 4, cb_out = 16;
constexpr uint32_t total_rows = rows * row_blocks;

constexpr auto input_args = TensorAccessorArgs<0>();
constexpr auto scale_args = TensorAccessorArgs<input_args.next_compile_time_args_offset()>();
constexpr auto out_args = TensorAccessorArgs<scale_args.next_compile_time_args_offset()>();
constexpr auto key_args = TensorAccessorArgs<out_args.next_compile_time_args_offset()>();
constexpr auto value_args = TensorAccessorArgs<key_args.next_compile_time_args_offset()>();

void fill_with_ones() {
    constexpr uint32_t two_bfloat16_ones = 0x3F803F80;
    cb_reserve_back(cb_ones, 1);
    volatile tt_l1_ptr uint32_t* tile = reinterpret_cast<volatile tt_l1_ptr uint32_t*>(get_write_ptr(cb_ones));
    for (uint32_t i = 0; i < 32 * 32 / 2; ++i) {
        tile[i] = two_bfloat16_ones;
    }
    cb_push_back(cb_ones, 1);
}

template <typename Accessor>
void read_input(const Accessor& input, uint32_t first_row) {
    constexpr uint32_t block = rows * inner_block;
    const uint32_t tile_size = get_tile_size(cb_input);
    for (uint32_t k = 0; k < inner; k += inner_block) {
        cb_reserve_back(cb_input, block);
        uint32_t address = get_write_ptr(cb_input);
        for (uint32_t column = k; column < k + inner_block; ++column) {
            for (uint32_t row = 0; row < rows; ++row) {
                const uint32_t head = column / head_width;
                const uint32_t tile = (head * total_rows + first_row + row) * head_width + column % head_width;
                noc_async_read_page(tile, input, address);
                address += tile_size;
            }
        }
        noc_async_read_barrier();
        cb_push_back(cb_input, block);
    }
}

template <typename Accessor>
void read_scale(const Accessor& scale) {
    cb_reserve_back(cb_scale, inner);
    uint32_t address = get_write_ptr(cb_scale);
    for (uint32_t k = 0; k < inner; ++k) {
        noc_async_read_page(k, scale, address);
        address += get_tile_size(cb_scale);
    }
    noc_async_read_barrier();
    cb_push_back(cb_scale, inner);
}

// Where a unit's result tiles lie: in plain rows, or of heads in the query tensor and in the cache.
template <typename Out, typename Key, typename Value>
void write_result(const Out& out, const Key& key, const Value& value, uint32_t unit, uint32_t row, uint32_t column, uint32_t address) {
    if constexpr (query_heads == 0) {
        noc_async_write_page(row * out_width + unit, out, address);
    } else {
        const uint32_t head = unit / half_head;
        const uint32_t width = unit % half_head + column * half_head;
        if (head < query_heads) {
            noc_async_write_page((head * total_rows + row) * 2 * half_head + width, out, address);
        } else if (head < query_heads + kv_heads) {
            const uint32_t cache_row = (head - query_heads) * cache_rows + cache_start + row;
            noc_async_write_page(cache_row * 2 * half_head + width, key, address);
        } else {
            const uint32_t cache_row = (head - query_heads - kv_heads) * cache_rows + cache_start + row;
            noc_async_write_page(cache_row * 2 * half_head + width, value, address);
        }
    }
}

void kernel_main() {
    const uint32_t first_unit = get_arg_val<uint32_t>(0);
    const uint32_t units = get_arg_val<uint32_t>(1);
    const auto input = TensorAccessor(input_args, get_arg_val<uint32_t>(2));
    const auto scale = TensorAccessor(scale_args, get_arg_val<uint32_t>(3));
    const auto out = TensorAccessor(out_args, get_arg_val<uint32_t>(4));
    const auto key = TensorAccessor(key_args, get_arg_val<uint32_t>(5));
    const auto value = TensorAccessor(value_args, get_arg_val<uint32_t>(6));
    constexpr uint32_t results = rows * columns;
    const uint32_t out_tile_size = get_tile_size(cb_out);

    if constexpr (has_norm) {
        fill_with_ones();
    }
    if constexpr (has_scale) {
        read_scale(scale);
    }
    for (uint32_t block = 0; block < row_blocks; ++block) {
        read_input(input, block * rows);
        for (uint32_t unit = first_unit; unit < first_unit + units; ++unit) {
            cb_wait_front(cb_out, results);
            uint32_t address = get_read_ptr(cb_out);
            for (uint32_t row = 0; row < rows; ++row) {
                for (uint32_t column = 0; column < columns; ++column) {
                    write_result(out, key, value, unit, block * rows + row, column, address);
                    address += out_tile_size;
                }
            }
            noc_async_write_barrier();
            cb_pop_front(cb_out, results);
        }
    }
}
