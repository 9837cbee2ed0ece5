// Whether the elements of a table's vectors lie at addresses where they may be read.
//
// The FlatBuffers Verifier judges where the length of a vector lies. That is enough for elements of
// up to four bytes; numbers of eight bytes, and structs that have them, may lie four bytes beside
// where they belong, as the sender likes. The fields are those of the schema (flatc's static
// reflection): a vector that is added there is judged without a line here, and a kind of field that
// nobody thought of does not compile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "flatbuffers/flatbuffers.h"

namespace tidemark::protocol {

namespace alignment {

template <typename T>
inline constexpr bool kIsTable = std::is_base_of_v<flatbuffers::Table, T>;

// A vector without elements may lie anywhere: nothing of it is read.
template <typename Element>
bool lies_at(size_t alignment, const flatbuffers::Vector<Element>& vector) {
  return vector.size() == 0 || reinterpret_cast<uintptr_t>(vector.Data()) % alignment == 0;
}

template <typename T>
bool fields_aligned(const T& table);

// By kind of field; nullptr: it is absent.
template <typename T>
bool field_aligned(T /*value*/) {
  static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
  return true;
}

inline bool field_aligned(const flatbuffers::String* /*text*/) { return true; }

template <typename T>
bool field_aligned(const T* object) {
  static_assert(std::is_class_v<T>, "a union: say here which table it is");
  if constexpr (kIsTable<T>) {
    return object == nullptr || fields_aligned(*object);
  } else {
    return true;  // the Verifier judges a struct that is a field
  }
}

template <typename Scalar>
bool field_aligned(const flatbuffers::Vector<Scalar>* scalars) {
  static_assert(std::is_arithmetic_v<Scalar> || std::is_enum_v<Scalar>);
  return scalars == nullptr || lies_at(alignof(Scalar), *scalars);
}

template <typename Struct>
bool field_aligned(const flatbuffers::Vector<const Struct*>* structs) {
  static_assert(std::is_class_v<Struct> && !kIsTable<Struct>);
  return structs == nullptr || lies_at(alignof(Struct), *structs);
}

inline bool field_aligned(
    const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* /*texts*/) {
  return true;
}

template <typename T>
bool field_aligned(const flatbuffers::Vector<flatbuffers::Offset<T>>* tables) {
  static_assert(kIsTable<T>);
  if (tables != nullptr) {
    for (const T* const table : *tables) {
      if (!fields_aligned(*table)) {
        return false;
      }
    }
  }
  return true;
}

template <typename T>
bool fields_aligned(const T& table) {
  if constexpr (T::Traits::fields_number == 0) {
    return true;  // it has no get_field()
  } else {
    return [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
      return (field_aligned(table.template get_field<kIndex>()) && ...);
    }
    (std::make_index_sequence<T::Traits::fields_number>());
  }
}

}  // namespace alignment

// Of `table` and all tables below it. Requires: it has passed the Verifier.
template <typename T>
bool vectors_aligned(const T& table) {
  return alignment::fields_aligned(table);
}

}  // namespace tidemark::protocol
