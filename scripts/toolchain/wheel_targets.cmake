# Mends two things of a build against ROS 2's wheels in a virtual environment inside of the source tree, once all targets
# are there:
# - the wheels' exported targets name include folders of the machine that built them, and cmake refuses a target whose
#   include folder does not exist;
# - our own targets name numpy's include folder in the environment, and cmake refuses to export a path below the source.
function(mend_include_directories)
  get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
  get_property(own DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target ${imported} ${own})
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories)
      set(mended)
      foreach(directory ${directories})
        if(directory MATCHES "^\\$<")
          list(APPEND mended "${directory}")
        elseif(EXISTS "${directory}")
          list(APPEND mended "$<BUILD_INTERFACE:${directory}>")
        endif()
      endforeach()
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${mended}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL mend_include_directories)
